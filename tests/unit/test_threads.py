# SPDX-License-Identifier: MIT
"""Threads: frees without the interpreter lock while the owner allocates, and threads that take turns by the lock.

Each object carries a stamp of its own from its allocation to its free, so an object handed out twice, or freed under
someone's feet, is seen by whoever looks at it next; the statistics tell what was lost or freed twice.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

from forms import Memory, native
from slabmalloc.errors import DoubleFree, OutOfMemory

if native is None:
    pytest.skip("frees without the interpreter lock are the extension's", allow_module_level=True)

from slabmalloc import Layout, ZoneAllocator
from slabmalloc._native import c_functions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OK, INVALID_LAYOUT, FOREIGN, WRONG_CLASS, INTERIOR, DOUBLE = 0, 2, 3, 4, 5, 6
LAYOUT = Layout.from_size_align(64, 8)

# CFUNCTYPE lets go of the interpreter lock for the call.
remote_free = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)(
    c_functions()["deallocate"]
)


@pytest.fixture(autouse=True)
def short_turns() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def zone(memory: Memory) -> ZoneAllocator:
    return ZoneAllocator(memory)


def in_threads(*works: Callable[[], object]) -> None:
    """Runs all at once; what one of them raises is raised here."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def free_elsewhere(zone: ZoneAllocator, address: int, size: int = 64, align: int = 8) -> int:
    """Status of a free by a thread that is not the owner."""
    statuses: list[int] = []
    handle = zone.handle
    in_threads(lambda: statuses.append(remote_free(handle, address, size, align)))
    return statuses[0]


def word_at(address: int) -> Any:
    return ctypes.c_uint64.from_address(address)


# ---- one free ----------------------------------------------------------------------------------------------------


def test_a_remote_free_is_collected(zone: ZoneAllocator) -> None:
    objects = list(zone.allocate_many(LAYOUT, 10))
    assert [free_elsewhere(zone, address) for address in objects[:4]] == [OK] * 4
    assert zone.collect() == 4
    assert zone.collect() == 0
    stats = zone.stats()
    assert (stats.live_objects, stats.remote_frees, stats.late_double_frees) == (6, 4, 0)
    zone.audit()
    assert sorted(zone.allocate_many(LAYOUT, 4)) == sorted(objects[:4])


def test_statistics_collect_first(zone: ZoneAllocator) -> None:
    address = zone.allocate(LAYOUT)
    assert free_elsewhere(zone, address) == OK
    assert zone.stats().live_objects == 0
    assert zone.stats().remote_frees == 1, "counted once"


def test_a_full_zone_lives_on_remote_frees() -> None:
    zone = ZoneAllocator(Memory(limit=2))
    objects = [zone.allocate(LAYOUT) for _ in range(126)]
    with pytest.raises(OutOfMemory):
        zone.allocate(LAYOUT)
    for address in (objects[3], objects[70], objects[125], objects[0]):
        assert free_elsewhere(zone, address) == OK
        assert zone.allocate(LAYOUT) == address
        with pytest.raises(OutOfMemory):
            zone.allocate(LAYOUT)
    zone.audit()
    assert zone.stats().live_objects == 126


def test_remotely_emptied_pages_are_reclaimed(zone: ZoneAllocator, memory: Memory) -> None:
    objects = zone.allocate_many(LAYOUT, 300)
    handle = zone.handle
    in_threads(lambda: [remote_free(handle, address, 64, 8) for address in objects])
    assert zone.reclaim() == 5
    assert memory.pages_in_use == 0


def test_statuses_of_wrong_frees(zone: ZoneAllocator) -> None:
    address, other = zone.allocate(LAYOUT), zone.allocate(LAYOUT)
    before = zone.stats()
    page = address & -4096
    assert free_elsewhere(zone, address + 8) == INTERIOR
    assert free_elsewhere(zone, page + 4096 - 8) == INTERIOR
    assert free_elsewhere(zone, 8) == FOREIGN
    assert free_elsewhere(zone, 0) == FOREIGN
    assert free_elsewhere(zone, address, size=65) == WRONG_CLASS
    assert free_elsewhere(zone, address, size=1 << 20) == INVALID_LAYOUT
    assert free_elsewhere(zone, address, align=3) == INVALID_LAYOUT
    assert free_elsewhere(zone, page + 62 * 64) == DOUBLE, "a slot that was never used"
    assert zone.stats() == before
    zone.audit()
    zone.deallocate(address, LAYOUT)
    zone.deallocate(other, LAYOUT)


def test_double_frees_one_after_the_other(zone: ZoneAllocator) -> None:
    address = zone.allocate(LAYOUT)
    assert free_elsewhere(zone, address) == OK
    assert free_elsewhere(zone, address) == DOUBLE
    with pytest.raises(DoubleFree):
        zone.deallocate(address, LAYOUT)
    with pytest.raises(DoubleFree):
        zone.deallocate_many([address], LAYOUT)
    assert zone.collect() == 1
    assert free_elsewhere(zone, address) == DOUBLE
    assert zone.allocate(LAYOUT) == address
    zone.deallocate(address, LAYOUT)
    assert free_elsewhere(zone, address) == DOUBLE
    assert (zone.stats().live_objects, zone.stats().remote_frees, zone.stats().late_double_frees) == (0, 1, 0)
    zone.audit()


def test_a_buffer_freed_elsewhere_behind_its_back(zone: ZoneAllocator, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reported.append(report.exc_type))
    buffer = zone.buffer(64)
    assert free_elsewhere(zone, buffer.address, 64, 16) == OK
    del buffer
    assert reported == [DoubleFree]
    assert zone.stats().live_objects == 0
    zone.audit()


# ---- many at once ------------------------------------------------------------------------------------------------


class Traffic:
    """Stamped objects on their way from an owner, who frees each fourth itself, to threads that free the others."""

    def __init__(self, zone: ZoneAllocator, count: int, freers: int) -> None:
        self.zone = zone
        self.count = count
        self.freers = freers
        self.layouts = [Layout.from_size_align(size, 8) for size in (16, 64, 500)]
        self.queue: SimpleQueue[tuple[int, int, int] | None] = SimpleQueue()
        self.bad: list[str] = []

    def own(self) -> None:
        held: list[tuple[int, Layout]] = []
        for stamp in range(1, self.count + 1):
            layout = self.layouts[stamp % 3]
            address = self.zone.allocate(layout)
            word_at(address).value = stamp
            if stamp % 4 == 0:
                self.zone.deallocate(address, layout)
            elif stamp % 5 == 0:
                held.append((address, layout))
            else:
                self.queue.put((address, stamp, layout.size))
            if stamp % 97 == 0:
                self.zone.stats()
        if len({address for address, _ in held}) != len(held):
            self.bad.append("an object was handed out twice")
        for address, layout in held:
            self.queue.put((address, word_at(address).value, layout.size))
        for _ in range(self.freers):
            self.queue.put(None)

    def free(self) -> None:
        handle = self.zone.handle
        while (item := self.queue.get()) is not None:
            address, stamp, size = item
            if word_at(address).value != stamp:
                self.bad.append(f"{address:#x} has another's stamp")
            if (status := remote_free(handle, address, size, 8)) != OK:
                self.bad.append(f"status {status} of {address:#x}")


@pytest.mark.parametrize("freers", [1, 3])
def test_nothing_is_lost_or_doubled(zone: ZoneAllocator, freers: int) -> None:
    traffic = Traffic(zone, 15_000, freers)
    in_threads(traffic.own, *[traffic.free] * freers)
    assert traffic.bad == []
    stats = zone.stats()
    assert stats.conserved
    assert (stats.live_objects, stats.remote_frees, stats.late_double_frees) == (0, 15_000 * 3 // 4, 0)
    zone.audit()
    zone.reclaim()
    assert zone.stats().mapped_bytes == 0


def test_two_threads_free_the_same_objects(zone: ZoneAllocator) -> None:
    count = 5_000
    objects = zone.allocate_many(LAYOUT, count)
    handle, statuses = zone.handle, ([], [])  # type: tuple[int, tuple[list[int], list[int]]]
    start = threading.Barrier(2)

    def free(into: list[int]) -> None:
        start.wait()
        into.extend(remote_free(handle, address, 64, 8) for address in objects)

    in_threads(lambda: free(statuses[0]), lambda: free(statuses[1]))
    both = statuses[0] + statuses[1]
    assert set(both) <= {OK, DOUBLE}
    stats = zone.stats()
    assert both.count(OK) - stats.late_double_frees == count
    assert stats.live_objects == 0
    assert stats.remote_frees == count
    zone.audit()
    assert len(set(zone.allocate_many(LAYOUT, count))) == count


def test_an_owner_and_a_thread_free_the_same_objects(zone: ZoneAllocator) -> None:
    count = 5_000
    objects = zone.allocate_many(LAYOUT, count)
    handle, freed = zone.handle, [0, 0]
    start = threading.Barrier(2)

    def elsewhere() -> None:
        start.wait()
        freed[0] = sum(remote_free(handle, address, 64, 8) == OK for address in objects)

    def here() -> None:
        start.wait()
        for address in objects:
            try:
                zone.deallocate(address, LAYOUT)
            except DoubleFree:
                continue
            freed[1] += 1

    in_threads(elsewhere, here)
    stats = zone.stats()
    assert sum(freed) - stats.late_double_frees == count
    assert stats.live_objects == 0
    zone.audit()


def test_threads_take_turns_on_one_zone(zone: ZoneAllocator, memory: Memory) -> None:
    bad: list[int] = []

    def work(name: int) -> None:
        mine: list[int] = []
        for step in range(2_000):
            address = zone.allocate(LAYOUT)
            word_at(address).value = name << 32 | step
            mine.append(address)
            if step % 3 == 2:
                zone.deallocate(mine.pop(step % len(mine)), LAYOUT)
            if step % 500 == 499:
                zone.reclaim()
        bad.extend(address for address in mine if word_at(address).value >> 32 != name)
        zone.deallocate_many(mine, LAYOUT)

    in_threads(*[lambda name=name: work(name) for name in range(1, 5)])
    assert bad == []
    assert zone.stats().live_objects == 0
    zone.audit()
    zone.reclaim()
    assert memory.pages_in_use == 0


def test_buffers_end_in_any_thread(zone: ZoneAllocator) -> None:
    queue: SimpleQueue[Any] = SimpleQueue()

    def make() -> None:
        for number in range(2_000):
            buffer = zone.buffer(32)
            memoryview(buffer)[:] = bytes([number % 256]) * 32
            queue.put((number, memoryview(buffer)[8:] if number % 2 else buffer))
        queue.put(None)

    def drop() -> None:
        while (item := queue.get()) is not None:
            number, thing = item
            assert bytes(thing)[0] == number % 256
            del item, thing

    in_threads(make, drop)
    assert zone.stats().live_objects == 0
    zone.audit()
    zone.close()


def test_a_zone_that_closes_while_its_pager_is_at_work() -> None:
    class Closing(Memory):
        def allocate_page(self, page_type: Any = None) -> Any:
            mine.close()
            return super().allocate_page(page_type)

    pager = Closing()
    mine = ZoneAllocator(pager)
    with pytest.raises(ValueError, match="closed"):
        mine.allocate(LAYOUT)
    assert mine.closed
    assert pager.pages_in_use == 0, "the page that came too late is lost"
