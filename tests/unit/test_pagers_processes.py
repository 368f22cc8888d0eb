# SPDX-License-Identifier: MIT
"""A file in several processes: one writer, many readers, forked children, and writers that were killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from segments import (
    KIB,
    MIB,
    SMALL,
    corrupt_header,
    fill,
    flip,
    head_bytes,
    read_at,
    run,
)
from slabmalloc import reference
from slabmalloc.errors import InvalidPage
from slabmalloc.pagers import FilePager, Recovery
from slabmalloc.pagers.mapping import native_type
from slabmalloc.pagers.segment import (
    USED,
    table_byte,
)
from slabmalloc.pages import LargeObjectPage, Page
from slabmalloc.slab_format import carried_by

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

pytestmark = pytest.mark.skipif(native_type() is None, reason="files are written with the extension only")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "objects"


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
