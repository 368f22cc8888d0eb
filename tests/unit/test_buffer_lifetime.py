# SPDX-License-Identifier: MIT
"""How long a buffer's memory lives, on both forms: to the last view of it, through cycles and resurrections.

`zone.stats().live_objects` is the witness: it tells when the memory went back, neither earlier nor later.
"""

from __future__ import annotations

import gc
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from slabmalloc import reference
from slabmalloc.errors import DoubleFree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from forms import Memory


def look(buffer: Any) -> memoryview:
    """The bytes of a buffer; classes in plain Python export buffers from CPython 3.12 on."""
    if sys.version_info < (3, 12) and isinstance(buffer, reference.Buffer):
        return buffer.memory
    return memoryview(buffer)


def live(zone: Any) -> int:
    zone.audit()
    count: int = zone.stats().live_objects
    return count


@pytest.fixture
def zone(api: ModuleType, memory: Memory) -> Iterator[Any]:
    zone = api.ZoneAllocator(memory)
    yield zone
    if not zone.closed:
        zone.audit()


def test_a_dropped_buffer_frees(zone: Any) -> None:
    buffer = zone.buffer(64)
    assert live(zone) == 1
    del buffer
    assert live(zone) == 0


def test_memory_lives_until_the_last_view_is_gone(zone: Any) -> None:
    buffer = zone.buffer(8)
    views = [look(buffer), look(buffer)[2:4], look(buffer).cast("H")]
    del buffer
    while views:
        views[-1][0] = 7
        assert live(zone) == 1
        views.pop()
    assert live(zone) == 0


def test_a_view_of_a_numpy_array_keeps_the_memory(zone: Any) -> None:
    numpy = pytest.importorskip("numpy")
    column = numpy.frombuffer(look(zone.buffer(96)), "i4").reshape(4, 6)[:, 3]
    others = [look(zone.buffer(96)) for _ in range(50)]
    for other in others:
        other[:] = bytes(96)
    column[:] = 5
    assert not any(map(any, others))
    assert live(zone) == 51
    del column, other, others
    assert live(zone) == 0


def test_a_buffer_keeps_its_zone(api: ModuleType, memory: Memory) -> None:
    zone = api.ZoneAllocator(memory)
    gone = weakref.ref(zone)
    view = look(zone.buffer(5))
    del zone
    gc.collect()
    assert gone() is not None
    assert memory.pages_in_use == 1
    view[:] = b"alive"
    assert bytes(view) == b"alive"
    del view
    gc.collect()
    assert gone() is None
    assert memory.pages_in_use == 0


def test_a_zone_with_live_buffers_does_not_close(api: ModuleType, memory: Memory) -> None:
    zone = api.ZoneAllocator(memory)
    first, second = zone.buffer(64), look(zone.buffer(1000))
    with pytest.raises(BufferError, match="2 buffers still use the memory of <ZoneAllocator"):
        zone.close()
    assert (zone.closed, live(zone), memory.pages_in_use) == (False, 2, 2)
    first.release()
    with pytest.raises(BufferError, match="1 buffers"):
        zone.close()
    second.release()
    del second
    zone.close()
    assert (zone.closed, memory.pages_in_use) == (True, 0)
    zone.close()
    with pytest.raises(ValueError, match="closed"):
        zone.buffer(64)


@pytest.mark.parametrize("what", ["buffer", "view", "many"])
def test_a_cycle_through_the_zone_is_collected(api: ModuleType, memory: Memory, what: str) -> None:
    zone = api.ZoneAllocator(memory)
    gone = weakref.ref(zone)
    if what == "many":
        zone.mine = [zone.buffer(64) for _ in range(1000)]
    else:
        zone.mine = zone.buffer(64) if what == "buffer" else look(zone.buffer(64))
    del zone
    gc.collect()
    gc.collect()
    assert gone() is None
    assert memory.pages_in_use == 0
    assert not any(page.in_use for page in memory.pages)


class Keeper:
    """Is found in a cycle with a zone; when that is finalised it saves what it has."""

    def __init__(self, has: Any, saved: list[Any]) -> None:
        self.has = has
        self.saved = saved

    def __del__(self) -> None:
        self.saved.append(self.has)


@pytest.mark.parametrize("keeper_first", [True, False])
def test_a_buffer_that_outlives_its_finalised_zone_shows_no_memory_of_others(
    api: ModuleType, memory: Memory, keeper_first: bool
) -> None:
    if api is reference:
        pytest.skip("plain Python can't tell that a finaliser has saved what it is about to end")
    saved: list[Any] = []

    def make_garbage() -> None:
        cycle: list[Any] = []
        keeper = Keeper(None, saved) if keeper_first else None
        zone = api.ZoneAllocator(memory)
        keeper = keeper or Keeper(None, saved)
        keeper.has = zone.buffer(64)
        zone.mine = keeper
        cycle += [keeper, zone, cycle]

    make_garbage()
    gc.collect()
    (buffer,) = saved
    if memory.pages_in_use:  # the zone lives on with its buffer
        look(buffer)[:] = b"z" * 64
        assert bytes(look(buffer)) == b"z" * 64
    else:
        with pytest.raises(ValueError, match="released"):
            look(buffer)
        with pytest.raises(ValueError, match="released"):
            _ = buffer.address
        assert buffer.released
    del buffer
    saved.clear()
    gc.collect()
    assert memory.pages_in_use == 0


def test_a_view_that_outlives_its_finalised_zone_keeps_its_memory(api: ModuleType, memory: Memory) -> None:
    if api is reference:
        pytest.skip("plain Python can't tell that a finaliser has saved what it is about to end")
    saved: list[Any] = []

    def make_garbage() -> None:
        zone = api.ZoneAllocator(memory)
        view = look(zone.buffer(64))
        view[:] = b"v" * 64
        zone.mine = Keeper(view, saved)

    make_garbage()
    gc.collect()
    (view,) = saved
    assert memory.pages_in_use == 1, "a page went back to its pager while a view looks into it"
    stranger = api.ZoneAllocator(memory)
    look(stranger.buffer(64))[:] = b"s" * 64
    assert bytes(view) == b"v" * 64


def test_a_buffer_saved_by_a_finaliser_stays_a_buffer(api: ModuleType, memory: Memory) -> None:
    zone = api.ZoneAllocator(memory)
    saved: list[Any] = []
    keeper = Keeper(zone.buffer(3), saved)
    look(keeper.has)[:] = b"abc"
    del keeper
    (buffer,) = saved
    saved.clear()
    assert bytes(look(buffer)) == b"abc"
    assert live(zone) == 1
    del buffer
    assert live(zone) == 0


def test_a_weakref_callback_may_take_the_memory_again(zone: Any) -> None:
    numpy = pytest.importorskip("numpy")
    taken: list[Any] = []
    array = numpy.frombuffer(look(zone.buffer(64)), "u1")
    address = array.ctypes.data
    watch = weakref.ref(array, lambda _: taken.append(zone.buffer(64)))
    del array
    assert watch() is None
    assert len(taken) == live(zone) == 1
    assert zone.buffer(64).address != taken[0].address
    taken.clear()
    assert live(zone) == 0
    assert zone.buffer(64).address == address


# ---- freed behind its back ---------------------------------------------------------------------------------------


def test_release_after_a_free_behind_its_back(api: ModuleType, zone: Any) -> None:
    if api is reference:
        pytest.skip("frees with the last view, where there is nobody to raise to")
    buffer = zone.buffer(64)
    zone.deallocate(buffer.address, api.Layout.from_size_align(64, 16))
    with pytest.raises(DoubleFree):
        buffer.release()
    assert buffer.released
    del buffer
    assert live(zone) == 0
    zone.close()


def test_drop_after_a_free_behind_its_back(api: ModuleType, zone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reported.append(report.exc_type))
    buffer = zone.buffer(64)
    zone.deallocate(buffer.address, api.Layout.from_size_align(64, 16))
    del buffer
    assert reported == [DoubleFree]
    assert live(zone) == 0
    zone.close()  # the buffer is not counted any more
