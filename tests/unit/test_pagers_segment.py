# SPDX-License-Identifier: MIT
"""Which segments are refused, and with what reason; what their header and table may say."""

from __future__ import annotations

import os
import sys
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segments import (
    GIB,
    KIB,
    MIB,
    SMALL,
    corrupt_header,
    fill,
    flip,
    head_bytes,
)
from slabmalloc import reference
from slabmalloc.errors import InvalidPage
from slabmalloc.pagers import FilePager
from slabmalloc.pagers.mapping import native_type
from slabmalloc.pagers.segment import (
    CLEAN,
    HEADER_BYTES,
    NO_ROOT,
    RECORD,
    RECORD_OFFSETS,
    RETAINED,
    USED,
    Header,
    read_header,
    table_byte,
)
from slabmalloc.slab_format import slab_geometry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(native_type() is None, reason="files are written with the extension only")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "objects"


def flip_both(path: Path) -> None:
    for offset in RECORD_OFFSETS:
        flip(path, offset + 30)


def swap_bytes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for offset in RECORD_OFFSETS:
        data[offset + 8 : offset + 12] = data[offset + 8 : offset + 12][::-1]
    path.write_bytes(data)


def cut(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "foreign": (
        lambda path: path.write_bytes(b"\x7fELF" + bytes(5000)),
        r"no segment of slabmalloc: it begins with b'\\x7fELF",
    ),
    "short": (lambda path: path.write_bytes(b"slabseg\n"), "ends after 8 bytes, within the header"),
    "zeros": (lambda path: path.write_bytes(bytes(8192)), "an empty header: its making was cut short"),
    "truncated": (
        lambda path: os.truncate(path, path.stat().st_size - 1),
        r"is truncated: it has \d+ bytes and needs \d+",
    ),
    "truncated table": (cut(5000), r"is truncated: it has 5000 bytes"),
    "other byte order": (swap_bytes, "machine of the other byte order"),
    "other version": (lambda path: corrupt_header(path, version=2), "has format version 2: this is version 1"),
    "torn header": (
        flip_both,
        "a torn header: no record fits",
    ),
    "half torn header": (lambda path: flip(path, 30), "was not closed"),
    "impossible size": (lambda path: corrupt_header(path, size=100), "an impossible size: 100 of at most"),
    "size beyond maximum": (lambda path: corrupt_header(path, size=1 << 40), "an impossible size"),
    "not closed": (
        lambda path: corrupt_header(path, state=2, writer=4711),
        r"was not closed \(process 4711 had it open\)",
    ),
    "torn table": (lambda path: flip(path, HEADER_BYTES), "a torn page table: it does not fit its checksum"),
    "torn slab": (
        lambda path: flip(path, head_bytes(path) + 4096 - 20),
        "offset 0x0: .* carries a torn slab: its trailer",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_file_that_is_not_whole_is_refused_with_the_reason(path: Path, fault: str) -> None:
    fill(reference, path)
    damage, reason = REFUSED[fault]
    damage(path)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(InvalidPage, match=f"(?s)file '.*objects'.*{reason}") as caught:
            FilePager(path)
        assert isinstance(caught.value, ValueError)
    assert path.read_bytes() == before  # it was looked at, no more


def test_a_bitmap_that_contradicts_itself_is_refused(path: Path) -> None:
    fill(reference, path)
    with FilePager(path, readonly=True) as pager:
        data = pager.view(0, 4096)
        object_bytes, capacity = (int.from_bytes(data[4096 - o :][:4], sys.byteorder) for o in (24, 20))
        words = slab_geometry(object_bytes, 4096).metadata // 16 - 2
        local = 4096 - 32 - 16 * words
        assert capacity % 64
    position = head_bytes(path) + local + capacity // 64 * 8 + 7
    flip(path, position, 0x80)  # a slot beyond the last
    with pytest.raises(InvalidPage, match="carries a torn slab: its bitmaps contradict each other"):
        FilePager(path)


@pytest.mark.parametrize(
    ("position", "value", "reason"),
    [
        (0, 0x0C, "byte 0xc at offset 0x0 means nothing"),  # a size without a state
        (0, USED << 6 | 5, "means nothing"),  # 32 bytes
        (0, USED << 6 | 31, "means nothing"),  # 2 GiB
        (0, 0xCC, "means nothing"),  # a state that there is not
        (1, table_byte(USED, 8192), "no page of 8192 bytes can be at offset 0x1000"),
        (511, table_byte(USED, 4 * MIB), "no page of 4194304 bytes can be"),
    ],
)
def test_a_page_table_that_can_not_be_is_refused_even_to_recover(
    path: Path, position: int, value: int, reason: str
) -> None:
    fill(reference, path)
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES + position] = value
    path.write_bytes(data)
    corrupt_header(path, state=2)
    with pytest.raises(InvalidPage, match=f"a torn page table: .*{reason}"):
        FilePager(path, recover=True)


def test_pages_that_overlap_are_refused(path: Path) -> None:
    fill(reference, path)
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES] = table_byte(RETAINED, 8192)
    data[HEADER_BYTES + 1] = table_byte(RETAINED, 4096)
    path.write_bytes(data)
    corrupt_header(path, table_crc=zlib.crc32(data[HEADER_BYTES:][: FilePager(path, readonly=True).size // 4096]))
    with pytest.raises(InvalidPage, match="no page of 4096 bytes can be at offset 0x1000"):
        FilePager(path)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(position=st.integers(0, 8191), mask=st.integers(1, 255))
def test_any_flipped_bit_in_header_or_table_is_noticed_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, position: int, mask: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "objects"
    with FilePager(path, size=256 * KIB, max_size=512 * KIB) as pager, reference.ZoneAllocator(pager) as zone:
        for _ in range(100):
            zone.allocate(SMALL)
    flip(path, position, mask)
    record = any(offset <= position < offset + RECORD.size for offset in RECORD_OFFSETS)
    table = HEADER_BYTES <= position < HEADER_BYTES + 64
    if record or table:
        with pytest.raises(InvalidPage):
            FilePager(path)
    else:
        with FilePager(path) as pager, reference.ZoneAllocator(pager) as zone:
            assert zone.stats().live_objects == 100
    path.unlink()


def test_a_record_cut_short_leaves_the_other(path: Path) -> None:
    """Between the two records of a change the file is as it was, or as it is to be, and not clean."""
    fill(reference, path)
    clean = path.read_bytes()
    corrupt_header(path, (0,), state=2, writer=99, sequence=1000)
    with pytest.raises(InvalidPage, match="process 99"):
        FilePager(path)
    path.write_bytes(clean)
    corrupt_header(path, (2048,), state=2, writer=0, sequence=1)  # closing: the first says clean, the second not yet
    with pytest.raises(InvalidPage, match="was not closed"):
        FilePager(path)
    with FilePager(path, recover=True) as pager:
        assert pager.recovery is not None


def test_the_header_is_what_the_documents_say() -> None:
    assert RECORD.size == 72
    header = Header(state=CLEAN, size=4096, max_size=16 * GIB)
    assert header.head_bytes == 65536 * 65
    assert header.root == NO_ROOT
    head = memoryview(bytearray(HEADER_BYTES))
    written = header.write(head, writer=7)
    assert read_header(bytes(head), "x") == (written, True)
    assert (written.sequence, written.writer) == (1, 7)
