# SPDX-License-Identifier: MIT
"""Object caches (Bonwick 1994) over zones of both forms: an object is constructed once, however often it is used."""

from __future__ import annotations

import ctypes
import gc
from typing import TYPE_CHECKING, Any

import pytest

from forms import Memory
from slabmalloc import ObjectCache
from slabmalloc.errors import DoubleFree, InvalidFree, InvalidLayout, OutOfMemory

if TYPE_CHECKING:
    from types import ModuleType


class Bench:
    """A cache whose constructor and destructor write down what they get, and raise what they are told to."""

    def __init__(self, api: ModuleType, limit: int = 1 << 30) -> None:
        self.api = api
        self.memory = Memory(limit)
        self.zone: Any = api.ZoneAllocator(self.memory)
        self.layout = api.Layout.from_size_align(64, 8)
        self.made: list[int] = []
        self.unmade: list[int] = []
        self.trouble: BaseException | None = None
        self.cache = ObjectCache(self.zone, self.layout, self.construct, self.destruct)

    def construct(self, address: int) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.made.append(address)
        ctypes.memset(address, 0xC0, 64)

    def destruct(self, address: int) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.unmade.append(address)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Objects live and idle in the cache, and live in the zone."""
        self.zone.audit()
        return self.cache.live_objects, self.cache.idle_objects, self.zone.stats().live_objects


@pytest.fixture
def bench(api: ModuleType) -> Bench:
    return Bench(api)


def test_the_constructor_runs_at_the_first_use_of_a_slot(bench: Bench) -> None:
    assert bench.made == []
    objects = [bench.cache.allocate() for _ in range(3)]
    assert bench.made == objects
    assert bench.counts == (3, 0, 3)


def test_the_constructed_state_survives_a_free(bench: Bench) -> None:
    address = bench.cache.allocate()
    word = ctypes.c_uint64.from_address(address)
    assert word.value == 0xC0C0C0C0C0C0C0C0
    word.value = 42
    bench.cache.deallocate(address)
    assert bench.counts == (0, 1, 1)
    assert ctypes.string_at(address, 64) == (42).to_bytes(8, "little") + b"\xc0" * 56
    assert bench.cache.allocate() == address
    assert ctypes.c_uint64.from_address(address).value == 42
    assert bench.made == [address]
    assert bench.unmade == []


def test_the_object_freed_last_is_reused_first(bench: Bench) -> None:
    first, second, third = (bench.cache.allocate() for _ in range(3))
    for address in (third, first, second):
        bench.cache.deallocate(address)
    assert [bench.cache.allocate() for _ in range(3)] == [second, first, third]
    assert len(bench.made) == 3


def test_reclaim_destructs_what_is_idle_alone(bench: Bench) -> None:
    objects = [bench.cache.allocate() for _ in range(10)]
    for address in objects[:6]:
        bench.cache.deallocate(address)
    assert bench.unmade == []
    assert bench.cache.reclaim() == 6
    assert sorted(bench.unmade) == objects[:6]
    assert bench.counts == (4, 0, 4)
    assert bench.cache.reclaim() == 0
    again = bench.cache.allocate()
    assert bench.made == [*objects, again], "a slot that went back is constructed anew"


def test_reclaimed_memory_goes_back_to_the_pager(bench: Bench) -> None:
    objects = [bench.cache.allocate() for _ in range(200)]
    for address in objects:
        bench.cache.deallocate(address)
    assert bench.zone.reclaim() == 0, "idle objects hold their pages"
    bench.cache.reclaim()
    assert bench.zone.reclaim() == 4
    assert bench.memory.pages_in_use == 0


def test_no_constructor_and_no_destructor(bench: Bench) -> None:
    with ObjectCache(bench.zone, bench.layout) as cache:
        address = cache.allocate()
        cache.deallocate(address)
        assert cache.allocate() == address
        cache.deallocate(address)
        assert cache.reclaim() == 1
    assert bench.counts == (0, 0, 0)


@pytest.mark.parametrize("trouble", [RuntimeError("half made"), KeyboardInterrupt()])
def test_a_constructor_that_raises_allocates_nothing(bench: Bench, trouble: BaseException) -> None:
    kept = bench.cache.allocate()
    bench.trouble = trouble
    with pytest.raises(type(trouble)) as caught:
        bench.cache.allocate()
    assert caught.value is trouble
    assert bench.counts == (1, 0, 1)
    bench.trouble = None
    after = bench.cache.allocate()
    assert bench.made == [kept, after]
    assert bench.counts == (2, 0, 2)


def test_a_destructor_that_raises_leaves_the_others_waiting(bench: Bench) -> None:
    objects = [bench.cache.allocate() for _ in range(3)]
    for address in objects:
        bench.cache.deallocate(address)
    bench.trouble = RuntimeError("stuck")
    with pytest.raises(RuntimeError, match="stuck"):
        bench.cache.reclaim()
    assert bench.counts == (0, 2, 2)
    bench.trouble = None
    assert bench.cache.reclaim() == 2
    assert bench.counts == (0, 0, 0)


def test_double_free(bench: Bench) -> None:
    address = bench.cache.allocate()
    bench.cache.deallocate(address)
    with pytest.raises(DoubleFree, match=f"{address:#x} is free already"):
        bench.cache.deallocate(address)
    assert bench.counts == (0, 1, 1)
    assert bench.cache.allocate() == address
    assert bench.cache.allocate() != address


def test_free_of_what_is_not_the_caches(bench: Bench) -> None:
    mine = bench.cache.allocate()
    zones = bench.zone.allocate(bench.layout)
    other = ObjectCache(bench.zone, bench.layout)
    others = other.allocate()
    for address in (zones, others, mine + 8, 0, -1, 1 << 70):
        with pytest.raises(InvalidFree) as caught:
            bench.cache.deallocate(address)
        assert caught.type is InvalidFree, "not a double free"
    assert bench.counts == (1, 0, 3)
    other.deallocate(others)


def test_free_after_reclaim(bench: Bench) -> None:
    address = bench.cache.allocate()
    bench.cache.deallocate(address)
    bench.cache.reclaim()
    with pytest.raises(InvalidFree):
        bench.cache.deallocate(address)
    assert bench.counts == (0, 0, 0)


def test_close_is_refused_with_live_objects(bench: Bench) -> None:
    live, idle = bench.cache.allocate(), bench.cache.allocate()
    bench.cache.deallocate(idle)
    with pytest.raises(BufferError, match="1 objects of <ObjectCache"):
        bench.cache.close()
    assert bench.unmade == []
    assert bench.counts == (1, 1, 2)
    bench.cache.deallocate(live)
    bench.cache.close()
    assert sorted(bench.unmade) == [live, idle]
    assert bench.counts == (0, 0, 0)


def test_with_closes(bench: Bench) -> None:
    with bench.cache as cache:
        address = cache.allocate()
        cache.deallocate(address)
    assert bench.unmade == [address]
    assert bench.counts == (0, 0, 0)


def test_a_dropped_cache_destructs_what_is_idle(bench: Bench) -> None:
    live, idle = bench.cache.allocate(), bench.cache.allocate()
    bench.cache.deallocate(idle)
    del bench.cache
    gc.collect()
    assert bench.unmade == [idle]
    assert bench.zone.stats().live_objects == 1
    bench.zone.deallocate(live, bench.layout)


def test_a_cache_keeps_its_zone(bench: Bench) -> None:
    address = bench.cache.allocate()
    bench.zone = None
    gc.collect()
    ctypes.memset(address, 1, 64)
    bench.cache.deallocate(address)
    assert bench.cache.zone.stats().live_objects == 1
    del bench.cache
    gc.collect()
    assert bench.memory.pages_in_use == 0


def test_a_zone_that_closed_first(bench: Bench) -> None:
    bench.cache.deallocate(bench.cache.allocate())
    bench.zone.close()
    del bench.cache
    gc.collect()
    assert bench.unmade == [], "its memory is gone"


def test_a_constructor_may_use_the_cache(bench: Bench) -> None:
    inner: list[int] = []

    def construct(address: int) -> None:
        if not inner:
            inner.append(address)
            inner.append(cache.allocate())

    cache = ObjectCache(bench.zone, bench.layout, construct)
    assert inner == [outer := cache.allocate(), inner[1]]
    assert outer != inner[1]
    assert cache.live_objects == 2
    for address in inner:
        cache.deallocate(address)


def test_errors_of_the_zone_pass_through(api: ModuleType) -> None:
    bench = Bench(api, limit=1)
    objects = [bench.cache.allocate() for _ in range(63)]
    with pytest.raises(OutOfMemory):
        bench.cache.allocate()
    assert bench.counts == (63, 0, 63)
    bench.cache.deallocate(objects[5])
    assert bench.cache.allocate() == objects[5]
    with pytest.raises(InvalidLayout):
        ObjectCache(bench.zone, api.Layout.from_size_align(1 << 20, 8)).allocate()


def test_repr_counts(bench: Bench) -> None:
    bench.cache.allocate()
    bench.cache.deallocate(bench.cache.allocate())
    assert repr(bench.cache) == "<ObjectCache of Layout(size=64, align=8): 1 live, 1 idle>"
