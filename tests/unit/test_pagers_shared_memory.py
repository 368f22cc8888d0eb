# SPDX-License-Identifier: MIT
"""Pages in a named shared-memory segment: one process allocates, others read by offset; who ends it, and when."""

from __future__ import annotations

import os
import signal
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from segments import run
from slabmalloc import reference
from slabmalloc.errors import InvalidPage
from slabmalloc.pagers import SharedMemoryPager
from slabmalloc.pagers.mapping import native_type
from slabmalloc.pages import LargeObjectPage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

pytestmark = pytest.mark.skipif(native_type() is None, reason="segments are written with the extension only")

KIB, MIB = 1 << 10, 1 << 20


def place(name: str) -> Path:
    return Path("/dev/shm") / name


@pytest.fixture
def name() -> Iterator[str]:
    """A name that nobody has, and that nobody has afterwards."""
    name = f"slabmalloc_test_{os.getpid()}_{os.urandom(4).hex()}"
    yield name
    place(name).unlink(missing_ok=True)


READER = """
    import sys, slabmalloc
    with slabmalloc.SharedMemoryPager(sys.argv[1], readonly=True) as pager:
        offset, seen = pager.root, []
        while offset:
            view = pager.view(offset, 64)
            size = int.from_bytes(view[8:16], "little")
            seen.append(bytes(view[16 : 16 + size]).decode())
            offset = int.from_bytes(view[:8], "little")
        print(" ".join(seen), pager.writer)
"""


def test_another_process_follows_offsets(api: ModuleType, name: str) -> None:
    layout = api.Layout.from_size_align(64, 8)
    with SharedMemoryPager(name, create=True, size=64 * KIB) as pager, api.ZoneAllocator(pager) as zone:
        zone.allocate(layout)  # so that no offset is 0
        for word in ("world", "hello"):  # a list, linked by offsets
            offset = pager.offset_of(zone.allocate(layout))
            following = pager.root or 0
            text = word.encode()
            data = following.to_bytes(8, "little") + len(text).to_bytes(8, "little") + text
            pager.view(offset, len(data))[:] = data
            pager.root = offset
        process = run(READER, name)
        output, errors = process.communicate(timeout=60)
        assert (output, errors) == (f"hello world {os.getpid()}\n", "")
        # Readers need no extension.
        process = run(READER, name, env={**os.environ, "SLABMALLOC_PURE": "1"})
        output, errors = process.communicate(timeout=60)
        assert (output, errors) == (f"hello world {os.getpid()}\n", "")


def test_the_segment_lasts_until_it_is_unlinked(api: ModuleType, name: str) -> None:
    process = run(
        """
        import sys, slabmalloc
        with slabmalloc.SharedMemoryPager(sys.argv[1], create=True) as pager, slabmalloc.ZoneAllocator(pager) as zone:
            address = zone.allocate(slabmalloc.Layout.from_size_align(64, 8))
            pager.root = pager.offset_of(address)
            pager.view(pager.root, 5)[:] = b"stays"
        """,
        name,
    )
    assert process.communicate(timeout=60) == ("", "")  # no complaint of a resource tracker, either
    with SharedMemoryPager(name) as pager:
        assert pager.name == name
        assert bytes(pager.view(pager.root or 0, 5)) == b"stays"
        with api.ZoneAllocator(pager) as zone:
            assert zone.stats().live_objects == 1
            pager.unlink()
            zone.allocate(api.Layout.from_size_align(64, 8))  # without a name it lives on
        with pytest.raises(FileNotFoundError):
            pager.unlink()
    with pytest.raises(FileNotFoundError):
        SharedMemoryPager(name)
    with pytest.raises(FileNotFoundError):
        SharedMemoryPager(name, readonly=True)


def test_names_are_those_of_multiprocessing(name: str) -> None:
    with SharedMemoryPager(name, create=True) as pager:
        page = pager.allocate_page()
        page.buffer[:6] = b"shared"
        raw = SharedMemory(name)
        assert raw.buf is not None
        resource_tracker.unregister(f"/{name}", "shared_memory")  # it would remove the name with this process
        try:
            assert bytes(raw.buf).find(b"shared") == pager._header().head_bytes + pager.offset_of(page.address)
        finally:
            raw.close()
        pager.release_page(page)
    foreign = SharedMemory(create=True, size=8192)
    try:
        assert foreign.buf is not None
        foreign.buf[:4] = b"\x7fELF"
        for readonly in (False, True):
            with pytest.raises(InvalidPage, match=f"shared memory '{foreign.name}' is no segment of slabmalloc"):
                SharedMemoryPager(foreign.name, readonly=readonly)
    finally:
        foreign.close()
        foreign.unlink()


def test_create_and_attach_are_told_apart(name: str) -> None:
    with pytest.raises(FileNotFoundError):
        SharedMemoryPager(name)
    with SharedMemoryPager(name, create=True):
        with pytest.raises(FileExistsError):
            SharedMemoryPager(name, create=True)
        with pytest.raises(BlockingIOError, match="has a writer already"):
            SharedMemoryPager(name)
    for wrong, reason in (
        ({"create": True, "readonly": True}, "can't be read-only"),
        ({"name": None}, "without a name can't be found"),
        ({"name": "a/b"}, "has no slash"),
    ):
        with pytest.raises(ValueError, match=reason):
            SharedMemoryPager(**{"name": name, **wrong})  # type: ignore[arg-type]


def test_a_name_is_made_if_none_is_given() -> None:
    with SharedMemoryPager(create=True) as first, SharedMemoryPager(create=True) as second:
        assert first.name != second.name
        assert repr(first).startswith(
            f"<SharedMemoryPager: 0 pages (0 B) in use, 0 retained, shared memory '{first.name}'"
        )
        first.unlink()
        second.unlink()


def test_a_segment_that_can_not_be_made_leaves_no_name(name: str) -> None:
    with pytest.raises(MemoryError, match="no address space"):
        SharedMemoryPager(name, create=True, max_size=1 << 47)
    assert not place(name).exists()


def test_it_grows_and_its_memory_is_taken_as_needed(name: str) -> None:
    with SharedMemoryPager(name, create=True, size=1 << 30) as pager:
        assert place(name).stat().st_blocks * 512 < 2 * MIB
        pages = [pager.allocate_page(LargeObjectPage) for _ in range(3)]
        assert place(name).stat().st_blocks * 512 < 12 * MIB
        for page in pages:
            pager.release_page(page)


def test_a_killed_writer_leaves_what_can_be_recovered(api: ModuleType, name: str) -> None:
    process = run(
        """
        import os, sys, signal, slabmalloc
        pager = slabmalloc.SharedMemoryPager(sys.argv[1], create=True)
        zone = slabmalloc.ZoneAllocator(pager)
        addresses = zone.allocate_many(slabmalloc.Layout.from_size_align(64, 8), 100)
        pager.root = pager.offset_of(addresses[99])
        pager.view(pager.root, 4)[:] = b"last"
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        name,
    )
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    with SharedMemoryPager(name, readonly=True) as reader:  # reading needs no recovery
        assert reader.writer == process.pid
        assert bytes(reader.view(reader.root or 0, 4)) == b"last"
    with pytest.raises(InvalidPage, match=f"was not closed .process {process.pid}"):
        SharedMemoryPager(name)
    with SharedMemoryPager(name, recover=True) as pager, api.ZoneAllocator(pager) as zone:
        assert zone.stats().live_objects == 100
        assert pager.recovery is not None
        assert pager.recovery.live_objects == 100
        assert bytes(pager.view(pager.root or 0, 4)) == b"last"


def test_both_kinds_of_segment_have_one_format(name: str, tmp_path: Path) -> None:
    from slabmalloc.pagers import FilePager

    with SharedMemoryPager(name, create=True) as pager, reference.ZoneAllocator(pager) as zone:
        pager.root = pager.offset_of(zone.allocate(reference.Layout.from_size_align(64, 8)))
    copy = tmp_path / "copy"
    copy.write_bytes(place(name).read_bytes())
    with FilePager(copy) as file, reference.ZoneAllocator(file) as zone:
        zone.deallocate(file.address_of(file.root or 0), reference.Layout.from_size_align(64, 8))
