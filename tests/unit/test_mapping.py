# SPDX-License-Identifier: MIT
"""Memory of the operating system, as the extension maps it: alignment, files, purging, and what is refused."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from forms import native

if native is None:
    pytest.skip("mappings are made by the extension", allow_module_level=True)

from slabmalloc._native import Mapping, address_of

if TYPE_CHECKING:
    from collections.abc import Iterator

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def is_mapped(address: int) -> bool:
    """True if the system has memory of this process there."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(bound, 16) for bound in line.split()[0].split("-"))
        if start <= address < end:
            return True
    return False


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Any]:
    """An open file of four OS pages, each full of its number."""
    path = tmp_path / "pages"
    path.write_bytes(b"".join(bytes([number]) * mmap.PAGESIZE for number in b"0123"))
    with path.open("r+b", buffering=0) as opened:
        yield opened


@pytest.mark.parametrize("align", [4 * KIB, 64 * KIB, 2 * MIB, 32 * MIB, GIB])
def test_alignment(align: int) -> None:
    mappings = [Mapping.anonymous(8 * KIB, align) for _ in range(3)]
    for mapping in mappings:
        assert mapping.address % align == 0
        assert not any(memoryview(mapping))
        memoryview(mapping)[:] = b"m" * (8 * KIB)
    assert len({mapping.address for mapping in mappings}) == 3


def test_a_gibibyte_costs_what_is_touched() -> None:
    before = resident_bytes()
    mapping = Mapping.anonymous(GIB, align=GIB)
    assert mapping.address % GIB == 0
    view = memoryview(mapping)
    view[0], view[-1] = 1, 2
    assert (view[0], view[GIB // 2], view[-1]) == (1, 0, 2)
    assert resident_bytes() - before < 64 * MIB


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.parametrize("size", [1, 4 * KIB, 5000, MIB + 1])
def test_a_mapping_is_writable_bytes(size: int) -> None:
    mapping = Mapping.anonymous(size)
    view = memoryview(mapping)
    assert (view.format, view.readonly, view.nbytes) == ("B", False, size)
    assert len(mapping) == mapping.size == size
    assert address_of(mapping) == address_of(view) == mapping.address
    view[-1] = 255
    assert bytes(memoryview(mapping)[-1:]) == b"\xff"


@pytest.mark.parametrize(("size", "align", "reason"), [
    (0, 4 * KIB, errno.EINVAL), (4 * KIB, 0, errno.EINVAL), (4 * KIB, 3 * 4096, errno.EINVAL),
    (1 << 62, 4 * KIB, errno.ENOMEM),
    ((1 << 64) - 1, 4 * KIB, errno.EINVAL), ((1 << 64) - 4097, 4 * KIB, errno.ENOMEM),
])  # fmt: skip
def test_what_the_system_refuses(size: int, align: int, reason: int) -> None:
    with pytest.raises(OSError, match=os.strerror(reason)) as caught:
        Mapping.anonymous(size, align)
    assert caught.value.errno == reason


def test_explicit_huge_pages_or_an_oserror() -> None:
    free = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    if free.exists() and int(free.read_text()):
        assert Mapping.anonymous(2 * MIB, 2 * MIB, huge=True).address % (2 * MIB) == 0
    else:
        with pytest.raises(OSError, match="Errno") as caught:
            Mapping.anonymous(2 * MIB, 2 * MIB, huge=True)
        assert caught.value.errno in (errno.ENOMEM, errno.EINVAL, errno.EPERM)


def test_transparent_huge_pages_are_advice() -> None:
    mapping = Mapping.anonymous(4 * MIB, 2 * MIB)
    if Path("/sys/kernel/mm/transparent_hugepage").exists():
        mapping.advise_huge()
    assert not any(memoryview(mapping)[:: 4 * KIB])


# ---- the end -----------------------------------------------------------------------------------------------------


def test_close_unmaps() -> None:
    mapping = Mapping.anonymous(64 * KIB, GIB)
    address = mapping.address
    assert is_mapped(address)
    mapping.close()
    assert not is_mapped(address)
    mapping.close()
    assert "closed" in repr(mapping)


def test_the_surroundings_of_an_aligned_mapping_are_unmapped() -> None:
    def mapped_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE

    before = mapped_bytes()
    mappings = [Mapping.anonymous(64 * KIB, GIB) for _ in range(4)]  # the first may find an aligned hole
    assert mapped_bytes() - before < 16 * MIB
    assert len(mappings) == 4


def test_a_dropped_mapping_unmaps_after_its_views() -> None:
    mapping = Mapping.anonymous(64 * KIB, GIB)
    address = mapping.address
    view = memoryview(mapping)[4096:]
    del mapping
    view[0] = 1
    assert is_mapped(address)
    del view
    assert not is_mapped(address)


def test_close_is_refused_while_something_looks() -> None:
    mapping = Mapping.anonymous(8 * KIB)
    views = [memoryview(mapping), memoryview(mapping)]
    while views:
        with pytest.raises(BufferError, match=f"{len(views)} views still look into this mapping"):
            mapping.close()
        assert is_mapped(mapping.address)
        views.pop().release()
    mapping.close()


def test_a_closed_mapping_refuses() -> None:
    mapping = Mapping.anonymous(8 * KIB)
    mapping.close()
    with pytest.raises(ValueError, match="this mapping is closed"):
        _ = mapping.address
    with pytest.raises(ValueError, match="this mapping is closed"):
        memoryview(mapping)
    with pytest.raises(ValueError, match="this mapping is closed"):
        mapping.purge(0, 4096)
    with pytest.raises(ValueError, match="this mapping is closed"):
        mapping.advise_huge()


def test_mappings_come_from_their_makers() -> None:
    with pytest.raises(TypeError, match="anonymous"):
        Mapping()


# ---- purging -----------------------------------------------------------------------------------------------------


def test_purged_memory_reads_as_zero() -> None:
    mapping = Mapping.anonymous(4 * mmap.PAGESIZE)
    view = memoryview(mapping)
    view[:] = b"x" * len(view)
    mapping.purge(mmap.PAGESIZE, 2 * mmap.PAGESIZE)
    assert bytes(view) == b"x" * mmap.PAGESIZE + bytes(2 * mmap.PAGESIZE) + b"x" * mmap.PAGESIZE
    view[mmap.PAGESIZE] = 1
    assert view[mmap.PAGESIZE] == 1


def test_purging_gives_memory_back() -> None:
    mapping = Mapping.anonymous(64 * MIB)
    ones = memoryview(mapping)
    ones[:: mmap.PAGESIZE] = b"\1" * (len(ones) // mmap.PAGESIZE)
    full = resident_bytes()
    mapping.purge(0, 64 * MIB)
    assert full - resident_bytes() > 48 * MIB


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 12288), (4096, 8192), (8192, 1), (1 << 63, 4096), (4096, (1 << 64) - 4096)]
)
def test_purging_stays_within(offset: int, size: int) -> None:
    mapping = Mapping.anonymous(8192)
    memoryview(mapping)[:] = b"x" * 8192
    with pytest.raises(ValueError, match="not within a mapping of 8192 bytes"):
        mapping.purge(offset, size)
    assert bytes(memoryview(mapping)) == b"x" * 8192


def test_purging_wants_whole_os_pages() -> None:
    mapping = Mapping.anonymous(4 * mmap.PAGESIZE)
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        mapping.purge(100, mmap.PAGESIZE)


# ---- files -------------------------------------------------------------------------------------------------------


def test_a_file_is_shared(file: Any) -> None:
    mapping = Mapping.file(file.fileno(), 2 * mmap.PAGESIZE, offset=mmap.PAGESIZE)
    view = memoryview(mapping)
    assert bytes(view) == b"1" * mmap.PAGESIZE + b"2" * mmap.PAGESIZE
    view[:5] = b"hello"
    file.seek(mmap.PAGESIZE)
    assert file.read(6) == b"hello1"
    file.seek(3 * mmap.PAGESIZE - 1)
    file.write(b"!")
    assert view[-1] == ord("!")


@pytest.mark.parametrize("align", [4 * KIB, 2 * MIB, GIB])
def test_a_file_aligned(file: Any, align: int) -> None:
    mapping = Mapping.file(file.fileno(), 100, align, offset=3 * mmap.PAGESIZE)
    assert mapping.address % align == 0
    assert bytes(memoryview(mapping)) == b"3" * 100
    address = mapping.address
    mapping.close()
    assert not is_mapped(address)


def test_a_mapping_outlives_its_file_descriptor(file: Any) -> None:
    mapping = Mapping.file(file.fileno(), mmap.PAGESIZE)
    file.close()
    assert bytes(memoryview(mapping)[:4]) == b"0000"


def test_purging_a_file_keeps_its_contents(file: Any) -> None:
    mapping = Mapping.file(file.fileno(), mmap.PAGESIZE)
    memoryview(mapping)[:3] = b"new"
    mapping.purge(0, mmap.PAGESIZE)
    assert bytes(memoryview(mapping)[:4]) == b"new0"


def test_files_that_can_not_be_mapped(file: Any) -> None:
    for arguments, reason in (
        ((file.fileno(), 4096, 4096, 100), errno.EINVAL),
        ((file.fileno(), 0), errno.EINVAL),
        ((file.fileno(), 4096, 12288), errno.EINVAL),
        ((-1, 4096), errno.EBADF),
    ):
        with pytest.raises(OSError, match=os.strerror(reason)) as caught:
            Mapping.file(*arguments)
        assert caught.value.errno == reason


def test_a_file_opened_to_be_read_is_refused(file: Any) -> None:
    with Path(file.name).open("rb") as readable, pytest.raises(PermissionError):
        Mapping.file(readable.fileno(), 4096)
