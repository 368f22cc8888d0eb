# SPDX-License-Identifier: MIT
"""Pages in a file: what is there after a close, after a kill, and which files are refused, with what reason."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slabmalloc import reference
from slabmalloc.errors import InvalidPage, OutOfMemory
from slabmalloc.pagers import FilePager, LimitingPager, Recovery, RetainingPager, StatisticsPager
from slabmalloc.pagers import segment_file as segment_file_module
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
from slabmalloc.pages import LargeObjectPage, ObjectPage, Page, page_type
from slabmalloc.slab_format import carried_by, slab_geometry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

pytestmark = pytest.mark.skipif(native_type() is None, reason="files are written with the extension only")

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SMALL = reference.Layout.from_size_align(64, 8)
Made = TypeVar("Made")
SIZES = (24, 64, 200, 5000, 70_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "objects"


def write_at(address: int, data: bytes) -> None:
    import ctypes

    ctypes.memmove(address, data, len(data))


def read_at(address: int, size: int) -> bytes:
    import ctypes

    return ctypes.string_at(address, size)


def until_refused(make: Callable[[], Made], reason: str) -> list[Made]:
    """What `make` makes until it raises OutOfMemory for this reason."""
    made: list[Made] = []
    with pytest.raises(OutOfMemory, match=reason):
        made.extend(iter(make, None))  # keeps what came before the error
    return made


def fill(api: ModuleType, path: Path, count: int = 300) -> dict[int, bytes]:
    """Makes a file with objects of several sizes, every third freed again: offset -> contents of those that stay."""
    kept: dict[int, bytes] = {}
    with FilePager(path, max_size=64 * MIB) as pager, api.ZoneAllocator(pager) as zone:
        for i in range(count):
            size = SIZES[i % len(SIZES)]
            layout = api.Layout.from_size_align(size, 8)
            address = zone.allocate(layout)
            contents = f"object {i} of {size} bytes".encode().ljust(size, b".")[:size]
            write_at(address, contents)
            if i % 3:
                kept[pager.offset_of(address)] = contents
            else:
                zone.deallocate(address, layout)
    return kept


def run(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A Python of its own that runs `code`."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


# ---- closed and opened again ----


def test_objects_and_free_slots_are_there_again(api: ModuleType, path: Path) -> None:
    kept = fill(api, path)
    with FilePager(path) as pager:
        assert pager.recovery is None
        assert pager.pages_retained > 0
        assert pager.pages_in_use == 0
        with api.ZoneAllocator(pager) as zone:
            assert pager.pages_retained == 0
            assert zone.stats().live_objects == len(kept)
            assert zone.stats().conserved
            zone.audit()
            for offset, contents in kept.items():
                assert read_at(pager.address_of(offset), len(contents)) == contents
            before = pager.bytes_in_use
            assert zone.stats().classes[-1].free_bytes > 10 * SIZES[-1]
            zone.allocate_many(api.Layout.from_size_align(SIZES[-1], 8), 10)  # free slots were there, too
            assert pager.bytes_in_use == before


def test_both_forms_read_what_the_other_wrote(api: ModuleType, path: Path) -> None:
    kept = fill(reference, path)
    layouts = {size: api.Layout.from_size_align(size, 8) for size in SIZES}
    with FilePager(path) as pager, api.ZoneAllocator(pager) as zone:
        for offset, contents in list(kept.items())[::2]:
            zone.deallocate(pager.address_of(offset), layouts[len(contents)])
            del kept[offset]
    with FilePager(path) as pager, reference.ZoneAllocator(pager) as zone:
        assert zone.stats().live_objects == len(kept)
        for offset, contents in kept.items():
            assert read_at(pager.address_of(offset), len(contents)) == contents
            zone.deallocate(pager.address_of(offset), reference.Layout.from_size_align(len(contents), 8))
    with FilePager(path) as pager:
        assert pager.pages_retained == 0
        assert pager._free.free_bytes == pager.size  # nothing is lost


def test_addresses_change_and_offsets_stay(api: ModuleType, path: Path) -> None:
    with FilePager(path, max_size=16 * MIB) as pager, api.ZoneAllocator(pager) as zone:
        address = zone.allocate(api.Layout.from_size_align(64, 8))
        write_at(address, b"here")
        pager.root = offset = pager.offset_of(address)
        assert pager.address_of(offset) == address
    with FilePager(path) as pager:
        assert pager.root == offset
        assert read_at(pager.address_of(offset), 4) == bytes(pager.view(offset, 4)) == b"here"
        pager.root = None
        assert pager.root is None
        with pytest.raises(ValueError, match=r"is not in file '.*objects'"):
            pager.offset_of(1)
        for bad in (-1, pager.size):
            with pytest.raises(ValueError, match=r"1 bytes at offset .* are not in file"):
                pager.address_of(bad)
            with pytest.raises(ValueError, match="are not in file"):
                pager.root = bad
        with pytest.raises(ValueError, match="2 bytes at offset"):
            pager.view(pager.size - 1, 2)


def test_a_file_without_a_zone_in_between_keeps_everything(api: ModuleType, path: Path) -> None:
    kept = fill(api, path)
    for _ in range(3):
        with FilePager(path) as pager:
            assert pager.pages_retained
    with FilePager(path) as pager, api.ZoneAllocator(pager) as zone:
        assert zone.stats().live_objects == len(kept)


def test_pages_of_all_sizes_come_back(path: Path) -> None:
    kinds: list[type[Page]] = [ObjectPage, page_type(64 * KIB), LargeObjectPage, page_type(8192), ObjectPage]
    offsets = []
    with FilePager(path) as pager:
        allocators = [reference.SCAllocator(kind.SIZE // 4, kind) for kind in kinds]
        for number, (kind, allocator) in enumerate(zip(kinds, allocators, strict=True)):
            page = pager.allocate_page(kind)
            assert page.address % kind.SIZE == 0
            allocator.refill(page)
            allocator.allocate(reference.Layout.from_size_align(8, 8))
            page.buffer[:1] = bytes([number])
            offsets.append(pager.offset_of(page.address))
            page._give_back()
            pager.retain_page(page, 1)
        assert pager.pages_retained == 5
    with FilePager(path) as pager:
        pages = list(pager.retained_pages())
        assert sorted(pager.offset_of(page.address) for page in pages) == sorted(offsets)
        found = {pager.offset_of(page.address): (page.size, page.buffer[0]) for page in pages}
        assert found == {offset: (kind.SIZE, n) for n, (offset, kind) in enumerate(zip(offsets, kinds, strict=True))}


def test_the_file_grows_in_place(api: ModuleType, path: Path) -> None:
    with FilePager(path, size=64 * KIB, max_size=8 * MIB) as pager, api.ZoneAllocator(pager) as zone:
        first = zone.allocate(api.Layout.from_size_align(64, 8))
        write_at(first, b"first")
        large = api.Layout.from_size_align(100_000, 8)
        sizes = until_refused(
            lambda: (zone.allocate(large), pager.size)[1],
            r"no block of 2 MiB for a LargeObjectPage: .* can't grow beyond 8 MiB",
        )
        assert set(sizes) == {4 * MIB, 8 * MIB}
        assert read_at(first, 5) == b"first"
        assert pager.offset_of(first) < 64 * KIB
        zone.audit()
    assert path.stat().st_size <= 8 * MIB + 128 * KIB
    with FilePager(path) as pager, api.ZoneAllocator(pager) as zone:
        assert (pager.size, pager.max_size) == (8 * MIB, 8 * MIB)
        assert zone.stats().live_objects > 40


def test_a_page_larger_than_the_file_may_be_is_refused_at_once(path: Path) -> None:
    with FilePager(path, size=64 * KIB, max_size=1 * MIB) as pager:
        with pytest.raises(OutOfMemory, match="2 MiB for a LargeObjectPage"):
            pager.allocate_page(LargeObjectPage)
        assert pager.size == 64 * KIB


def test_released_pages_are_used_again_after_reopening(path: Path) -> None:
    with FilePager(path) as pager:
        pages = [pager.allocate_page() for _ in range(8)]
        for page in pages:
            pager.release_page(page)
    with FilePager(path) as pager:
        assert pager._free.free_bytes == pager.size
        page = pager.allocate_page()
        assert pager.offset_of(page.address) == 0
        pager.release_page(page)


def test_the_disk_is_filled_as_pages_go_out(path: Path) -> None:
    with FilePager(path, size=64 * MIB) as pager:
        assert path.stat().st_blocks * 512 < 1 * MIB
        page = pager.allocate_page(LargeObjectPage)
        assert 2 * MIB <= path.stat().st_blocks * 512 < 4 * MIB
        pager.release_page(page)


def test_an_empty_file_becomes_one_and_create_is_exact(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FilePager(path, create=False)
    path.touch()
    with pytest.raises(FileExistsError):
        FilePager(path, create=True)
    with FilePager(path):
        pass
    with FilePager(path, create=False) as pager:
        assert pager.path == str(path)
    path.unlink()
    with FilePager(path, create=True):
        pass
    with pytest.raises(ValueError, match="can't be read-only"):
        FilePager(path, create=True, readonly=True)


def test_it_is_a_retaining_pager_and_says_where_it_is(path: Path) -> None:
    pager = FilePager(path)
    assert isinstance(pager, RetainingPager)
    assert repr(pager) == f"<FilePager: 0 pages (0 B) in use, 0 retained, file {str(path)!r} of 2 MiB, at most 16 GiB>"
    pager.close()
    assert repr(pager) == "<FilePager: closed>"


# ---- closing ----


def test_close_is_refused_while_a_zone_has_pages(api: ModuleType, path: Path) -> None:
    pager = FilePager(path)
    zone = api.ZoneAllocator(pager)
    zone.allocate(api.Layout.from_size_align(64, 8))
    with pytest.raises(BufferError, match=r"FilePager can't close: 1 page \(4 KiB\) in use; close the zones"):
        pager.close()
    zone.close()
    pager.close()
    pager.close()
    with pytest.raises(ValueError, match="this FilePager is closed"):
        pager.address_of(0)
    with pytest.raises(ValueError, match="closed"):
        pager.allocate_page()


def test_a_dropped_zone_closes_its_file(api: ModuleType, path: Path) -> None:
    zone = api.ZoneAllocator(FilePager(path))
    zone.allocate(api.Layout.from_size_align(64, 8))
    del zone
    gc.collect()
    with FilePager(path) as pager:  # clean, or this would be refused
        assert pager.pages_retained == 1


def test_a_zone_and_its_file_in_one_cycle_close_in_any_order(api: ModuleType, path: Path) -> None:
    class Owner:
        pass

    for _ in range(4):
        owner: Any = Owner()
        owner.itself, owner.pager = owner, FilePager(path)
        owner.zone = api.ZoneAllocator(owner.pager)
        owner.zone.allocate(api.Layout.from_size_align(64, 8))
        del owner
        gc.collect()
    with FilePager(path) as pager:
        assert pager.pages_retained == 1


def test_a_program_that_just_ends_leaves_a_clean_file(path: Path) -> None:
    process = run(
        """
        import sys, slabmalloc
        zone = slabmalloc.ZoneAllocator(slabmalloc.FilePager(sys.argv[1]))
        zone.allocate(slabmalloc.Layout.from_size_align(64, 8))
        """,
        path,
    )
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    with FilePager(path) as pager:
        assert pager.pages_retained == 1


def test_a_zone_that_can_not_be_made_loses_nothing(api: ModuleType, path: Path) -> None:
    kept = fill(api, path)
    pager = FilePager(path)
    other = api.SizeClasses.from_sizes([48])
    for _ in range(2):
        with pytest.raises(InvalidPage):
            api.ZoneAllocator(pager, size_classes=other)
    gc.collect()
    with api.ZoneAllocator(pager) as zone:
        assert zone.stats().live_objects == len(kept)
    with pytest.raises(InvalidPage):
        api.ZoneAllocator(pager, size_classes=other)
    gc.collect()
    pager.close()
    with FilePager(path) as pager, api.ZoneAllocator(pager) as zone:
        assert zone.stats().live_objects == len(kept)


def test_a_restored_page_that_a_client_reclaims_is_out_until_it_is_released(api: ModuleType, path: Path) -> None:
    layout = api.Layout.from_size_align(64, 8)
    with FilePager(path) as pager, api.ZoneAllocator(pager) as zone:
        pager.root = pager.offset_of(zone.allocate(layout))
    reclaimed: list[Page] = []
    with FilePager(path) as pager:
        with api.ZoneAllocator(pager) as zone:
            zone.deallocate(pager.address_of(pager.root or 0), layout)
            assert zone.try_reclaim_base_pages(1, reclaimed.append) == 1
            assert list(pager.retained_pages()) == []  # its slab is gone
        with pytest.raises(BufferError, match="1 page"):
            pager.close()
        pager.release_page(reclaimed.pop())
    with FilePager(path) as pager:
        assert pager.pages_retained == 0


def test_a_finaliser_can_not_change_the_header_in_the_middle_of_a_change(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FilePager(path, size=4096, max_size=MIB) as pager:
        pages = [pager.allocate_page()]
        real = segment_file_module._allocate_blocks
        met: list[BaseException] = []

        def interrupted(fd: int, start: int, end: int) -> None:
            if not met:
                for change in (pager.allocate_page, lambda: setattr(pager, "root", 0)):
                    with pytest.raises(RuntimeError, match="is being changed already") as caught:
                        change()
                    met.append(caught.value)
                pager.release_page(pages.pop())  # this it can
            real(fd, start, end)

        monkeypatch.setattr(segment_file_module, "_allocate_blocks", interrupted)
        pages.append(pager.allocate_page())
        assert len(met) == 2
        assert (pager.size, pager.pages_in_use) == (8192, 1)
        pager.release_page(pages.pop())
        assert pager._free.free_bytes == 8192


def test_there_must_be_room_for_a_page(path: Path) -> None:
    for size in (0, -1):
        with pytest.raises(ValueError, match="there must be room for a page"):
            FilePager(path, size=size)
        assert not path.exists()


def test_only_a_page_with_a_slab_can_be_retained(path: Path) -> None:
    with FilePager(path) as pager:
        page = pager.allocate_page()
        with pytest.raises(InvalidPage, match="carries no slab"):
            pager.retain_page(page, 1)
        pager.release_page(page)
        with pytest.raises(InvalidPage, match="went back already"):
            pager.release_page(page)


def test_adaptors_keep_a_file_a_file(api: ModuleType, path: Path) -> None:
    for expected in (0, 1, 2):
        with StatisticsPager(LimitingPager(FilePager(path), 64 * MIB)) as pager:
            with api.ZoneAllocator(pager) as zone:
                assert zone.stats().live_objects == expected
                zone.allocate(api.Layout.from_size_align(64, 8))
                assert pager.pages_in_use == 1
            assert pager.pages_in_use == 0
            assert pager.stats().peak_pages == 1


# ---- files that are refused ----


def corrupt_header(path: Path, records: tuple[int, ...] = RECORD_OFFSETS, **changes: Any) -> None:
    """Rewrites records of the header with other fields, and with the CRC that fits."""
    data = bytearray(path.read_bytes())
    for offset in records:
        header = Header(*RECORD.unpack(data[offset : offset + RECORD.size]))
        data[offset : offset + RECORD.size] = replace(header, **changes).pack()
    path.write_bytes(data)


def flip(path: Path, position: int, mask: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


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


def head_bytes(path: Path) -> int:
    return read_header(path.read_bytes()[:HEADER_BYTES], "")[0].head_bytes


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


def test_address_space_that_is_not_there_is_out_of_memory(path: Path) -> None:
    with pytest.raises(OutOfMemory, match=r"no address space for file .* make it with a smaller max_size"):
        FilePager(path, max_size=1 << 47)
    assert not path.exists()


def test_a_full_disk_is_out_of_memory_and_no_signal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FilePager(path, size=64 * KIB, max_size=64 * MIB) as pager:
        held = [pager.allocate_page() for _ in range(4)]

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(segment_file_module, "_allocate_blocks", full)
            held += until_refused(pager.allocate_page, r"can't grow from 64 KiB to 128 KiB: .*No space left")
        assert pager.size == 64 * KIB
        assert len(held) == 16
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", full)
            with pytest.raises(OutOfMemory):
                pager.allocate_page()
        held.append(pager.allocate_page())
        for page in held:
            pager.release_page(page)
        assert pager._free.free_bytes == pager.size


def test_pages_without_blocks_are_out_of_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FilePager(path, size=64 * MIB) as pager:
        real = os.posix_fallocate
        room = [MIB + 8192]

        def nearly_full(fd: int, start: int, size: int) -> None:
            if size > room[0]:
                raise OSError(28, "No space left on device")
            room[0] -= size
            real(fd, start, size)

        monkeypatch.setattr(os, "posix_fallocate", nearly_full)
        pages = until_refused(pager.allocate_page, r"gets no room for its next page: .*No space left")
        assert len(pages) == 258  # to the last block
        free = pager._free.free_bytes
        pager.release_page(pages.pop())
        assert pager._free.free_bytes == free + 4096
        for page in pages:
            pager.release_page(page)


def test_without_the_extension_files_can_only_be_read(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = fill(reference, path)
    monkeypatch.setenv("SLABMALLOC_PURE", "1")
    with pytest.raises(NotImplementedError, match=r"file '.*' needs, to be written, slabmalloc's extension"):
        FilePager(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with FilePager(path, readonly=True) as pager:
        for offset, contents in kept.items():
            assert bytes(pager.view(offset, len(contents))) == contents


# ---- processes ----


HOLD = """
    import sys, slabmalloc
    pager = slabmalloc.FilePager(sys.argv[1])
    print("open", flush=True)
    sys.stdin.read()
    pager.close()
"""


def test_two_writers_at_once_are_refused(path: Path) -> None:
    process = run(HOLD, path, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    with pytest.raises(BlockingIOError, match="has a writer already: close it there, or attach with readonly=True"):
        FilePager(path)
    with FilePager(path, readonly=True) as reader:
        assert reader.writer == process.pid
    process.communicate("", timeout=60)
    assert process.returncode == 0
    with FilePager(path) as pager:
        assert pager.writer == os.getpid()
        with pytest.raises(BlockingIOError):  # nor twice in one process
            FilePager(path)
    with FilePager(path, readonly=True) as reader:
        assert reader.writer is None


def test_readers_see_what_the_writer_writes_and_change_nothing(path: Path) -> None:
    with FilePager(path, size=64 * KIB, max_size=64 * MIB) as pager:
        page = pager.allocate_page()
        with FilePager(path, readonly=True) as reader:
            offset = pager.offset_of(page.address)
            view = reader.view(offset, 5)
            page.buffer[:5] = b"hello"
            assert bytes(view) == b"hello"
            assert view.readonly
            address = reader.address_of(offset)
            assert (read_at(address, 5), reader.offset_of(address)) == (b"hello", offset)
            large = pager.allocate_page(LargeObjectPage)  # the file grows, the reader follows
            large.buffer[-5:] = b"large"
            end = pager.offset_of(large.address) + large.size
            assert bytes(reader.view(end - 5, 5)) == b"large"
            assert (reader.size, reader.root, reader.readonly) == (4 * MIB, None, True)
            assert (read_at(address, 5), reader.offset_of(address)) == (b"hello", offset)
            assert repr(reader) == f"<FilePager: 0 pages (0 B) in use, file {str(path)!r} of 4 MiB, read-only>"
            for change in (
                reader.allocate_page,
                reader.flush,
                lambda: list(reader.retained_pages()),
                lambda: setattr(reader, "root", 0),
            ):
                with pytest.raises(PermissionError, match="read-only here: only its writer has pages"):
                    change()
            with pytest.raises(InvalidPage, match="has handed out"):
                reader.release_page(page)
            with pytest.raises(ValueError, match="is not in file"):
                reader.offset_of(page.address)
            with pytest.raises(ValueError, match="are not in file"):
                reader.view(4 * MIB, 1)
        with pytest.raises(ValueError, match="closed"):
            reader.view(0, 1)
        pager.release_page(page)
        pager.release_page(large)


def test_a_forked_child_leaves_the_file_to_its_parent(path: Path) -> None:
    def child(pager: FilePager, page: Page) -> None:
        with pytest.raises(PermissionError, match=f"belongs to process {os.getppid()}"):
            pager.allocate_page()
        pager.release_page(page)
        pager.close()
        with pytest.raises(BlockingIOError):
            FilePager(path)

    with FilePager(path) as pager:
        page = pager.allocate_page()
        process = multiprocessing.get_context("fork").Process(target=child, args=(pager, page))
        process.start()
        process.join(60)
        assert process.exitcode == 0
        table = pager._segment.used_table()  # type: ignore[union-attr]
        assert table[0] == table_byte(USED, 4096)
        pager.release_page(page)
    with FilePager(path) as pager:
        assert pager.pages_retained == 0


KILLED = """
    import ctypes, os, random, sys, slabmalloc
    path, seed = sys.argv[1], int(sys.argv[2])
    random.seed(seed)
    pager = slabmalloc.FilePager(path, size=65536, max_size=1 << 26)
    zone = slabmalloc.ZoneAllocator(pager)
    layouts = [slabmalloc.Layout.from_size_align(size, 8) for size in (24, 64, 200, 5000)]
    live, steps = [], 0
    print("ready", flush=True)
    while True:
        if len(live) < 2000 and random.random() < 0.6:
            layout = random.choice(layouts)
            address = zone.allocate(layout)
            data = b"%d:%d:" % (pager.offset_of(address), layout.size)
            ctypes.memmove(address, data.ljust(layout.size, b"."), layout.size)
            live.append((address, layout))
        elif live:
            address, layout = live.pop(random.randrange(len(live)))
            ctypes.memset(address, 0, layout.size)
            zone.deallocate(address, layout)
        if random.random() < 0.01:
            zone.reclaim()
        steps += 1
        if steps % 1000 == 0:
            print(len(live), flush=True)
"""


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_writer_loses_nothing_that_was_whole(api: ModuleType, path: Path, seed: int) -> None:
    process = run(KILLED, path, seed)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    for _ in range(1 + seed):
        process.stdout.readline()
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(InvalidPage, match=f"was not closed .process {process.pid} had it open.: pass recover=True"):
        FilePager(path)
    with FilePager(path, recover=True) as pager:
        recovery = pager.recovery
        assert isinstance(recovery, Recovery)
        assert recovery.kept_pages == pager.pages_retained > 0
        with api.ZoneAllocator(pager) as zone:
            zone.audit()
            stats = zone.stats()
            assert stats.live_objects == recovery.live_objects
            assert stats.conserved
            whole = check_objects(pager)
            # The last object may have been allocated and not yet written, or wiped and not yet freed.
            assert recovery.live_objects - 1 <= whole <= recovery.live_objects
            zone.allocate_many(api.Layout.from_size_align(64, 8), 500)
            zone.audit()
            assert check_objects(pager) == whole
    with FilePager(path) as pager:  # clean again
        assert pager.recovery is None


def check_objects(pager: FilePager) -> int:
    """How many objects of the killed program are there; each must say its own offset and be whole."""
    found = 0
    for page in list(pager._held):
        object_bytes, capacity = carried_by(page) or (0, 0)
        for slot in range(capacity):
            data = bytes(page.buffer[slot * object_bytes : (slot + 1) * object_bytes])
            offset, _, rest = data.partition(b":")
            size, _, _body = rest.partition(b":")
            if not offset.isdigit() or not size.isdigit():
                continue
            assert int(offset) == pager.offset_of(page.address) + slot * object_bytes
            if data[: int(size)].rstrip(b".") == b"%s:%s:" % (offset, size):
                found += 1
    return found


def test_recovery_frees_pages_without_objects(path: Path) -> None:
    with FilePager(path) as pager, reference.ZoneAllocator(pager) as zone:
        address = zone.allocate(SMALL)
        zone.allocate(reference.Layout.from_size_align(128, 8))
        zone.deallocate(address, SMALL)  # a slab without a live object
        raw = pager.allocate_page()  # a page without a slab
        copy = path.with_name("copy")
        copy.write_bytes(path.read_bytes())
        pager.release_page(raw)
    with FilePager(copy, recover=True) as pager:
        assert pager.recovery == Recovery(kept_pages=1, live_objects=1, freed_pages=2)
        with reference.ZoneAllocator(pager) as zone:
            zone.allocate(SMALL)  # on a page that carried a slab when the file was copied
            assert zone.stats().live_objects == 2


def test_a_torn_slab_is_refused_even_to_recover(path: Path) -> None:
    fill(reference, path)
    flip(path, head_bytes(path) + 4096 - 20)
    corrupt_header(path, state=2)
    with pytest.raises(InvalidPage, match=r"offset 0x0: .* carries a torn slab"):
        FilePager(path, recover=True)


def test_recover_on_a_clean_file_is_an_ordinary_opening(path: Path) -> None:
    fill(reference, path)
    with FilePager(path, recover=True) as pager:
        assert pager.recovery is None


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
