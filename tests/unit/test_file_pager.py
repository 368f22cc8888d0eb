# SPDX-License-Identifier: MIT
"""Pages in a file: what is there after a close and an opening, how it grows, how it ends."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import pytest

from segments import (
    KIB,
    MIB,
    SIZES,
    fill,
    read_at,
    run,
    until_refused,
    write_at,
)
from slabmalloc import reference
from slabmalloc.errors import InvalidPage, OutOfMemory
from slabmalloc.pagers import FilePager, LimitingPager, RetainingPager, StatisticsPager
from slabmalloc.pagers import segment_file as segment_file_module
from slabmalloc.pagers.mapping import native_type
from slabmalloc.pages import LargeObjectPage, ObjectPage, Page, page_type

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

pytestmark = pytest.mark.skipif(native_type() is None, reason="files are written with the extension only")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "objects"


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


def test_a_zone_that_ends_when_nothing_can_be_imported_leaves_a_clean_file(path: Path) -> None:
    process = run(
        """
        import builtins, sys, slabmalloc
        builtins.kept = slabmalloc.ZoneAllocator(slabmalloc.FilePager(sys.argv[1]))  # the last of all to go
        builtins.kept.allocate(slabmalloc.Layout.from_size_align(64, 8))
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
