# SPDX-License-Identifier: MIT
"""The table of errors, a test each, on both forms.

After every error the zone is as before: it passes its audit, every byte is accounted for, and it goes on serving. That
is what `unharmed` checks around each misuse.
"""

from __future__ import annotations

import gc
from array import array
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from forms import Memory, new_page
from slabmalloc import errors
from slabmalloc.errors import DoubleFree, InvalidFree, InvalidLayout, InvalidPage, OutOfMemory
from slabmalloc.pages import LargeObjectPage, ObjectPage, page_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType


class Bench:
    """A zone of one form with three objects of 64 bytes on one page, and a fourth slot that was used and is free."""

    def __init__(self, api: ModuleType) -> None:
        self.api = api
        self.memory = Memory()
        self.zone: Any = api.ZoneAllocator(self.memory)
        self.layout = self.layout_of(64)
        self.objects = [self.zone.allocate(self.layout) for _ in range(4)]
        self.freed = self.objects.pop()
        self.zone.deallocate(self.freed, self.layout)
        self.page = self.memory.pages[0]

    def layout_of(self, size: int, align: int = 8) -> Any:
        return self.api.Layout.from_size_align(size, align)

    @contextmanager
    def unharmed(self, error: type[BaseException], match: str | None = None, *, new_pages: int = 0) -> Iterator[None]:
        """The block raises `error`; nothing else happens, but that `new_pages` may have come to stay, empty."""
        before = self.zone.stats()
        with pytest.raises(error, match=match) as caught:
            yield
        if error.__module__ == errors.__name__:
            assert type(caught.value) is error, "no subclass, which would say something else"
        caught.value.__traceback__ = None  # holds what the block had
        self.zone.audit()
        after = self.zone.stats()
        assert after.conserved
        assert after.live_objects == before.live_objects == 3
        assert after.pages_taken - before.pages_taken == new_pages
        again = self.zone.allocate(self.layout)
        if not new_pages:
            assert after == before
            assert again == self.freed
        self.zone.deallocate(again, self.layout)


@pytest.fixture
def bench(api: ModuleType) -> Bench:
    return Bench(api)


# ---- frees -------------------------------------------------------------------------------------------------------


def test_double_free(bench: Bench) -> None:
    with bench.unharmed(DoubleFree, f"{bench.freed:#x} is free already: slot 3 of .*{bench.page.address:#x}"):
        bench.zone.deallocate(bench.freed, bench.layout)


def test_free_between_slots(bench: Bench) -> None:
    address = bench.objects[1] + 24
    with bench.unharmed(InvalidFree, f"{address:#x} is 24 bytes into slot 1.* begins at {bench.objects[1]:#x}"):
        bench.zone.deallocate(address, bench.layout)


def test_free_in_the_metadata(bench: Bench) -> None:
    address = bench.page.address + 4096 - 32
    with bench.unharmed(InvalidFree, f"{address:#x} is behind the last of 63 slots"):
        bench.zone.deallocate(address, bench.layout)


def test_free_of_a_slot_that_was_never_used(bench: Bench) -> None:
    with bench.unharmed(DoubleFree, "is free already: slot 62"):
        bench.zone.deallocate(bench.page.address + 62 * 64, bench.layout)


def test_free_of_an_object_of_another_zone(bench: Bench) -> None:
    other = bench.api.ZoneAllocator(Memory())
    address = other.allocate(bench.layout)
    with bench.unharmed(InvalidFree, f"{address:#x} is on no page of <ZoneAllocator"):
        bench.zone.deallocate(address, bench.layout)
    other.deallocate(address, bench.layout)


@pytest.mark.parametrize("address", [0, 8, -8, -1, 1 << 63, 2**64 - 1, 2**64, 1 << 100])
def test_free_of_an_address_on_no_page(bench: Bench, address: int) -> None:
    with bench.unharmed(InvalidFree, "is on no page of"):
        bench.zone.deallocate(address, bench.layout)


def test_free_with_the_layout_of_another_class(bench: Bench) -> None:
    with bench.unharmed(InvalidFree, f"{bench.objects[0]:#x} is an object of 64 bytes, not of 80"):
        bench.zone.deallocate(bench.objects[0], bench.layout_of(65))
    with bench.unharmed(InvalidFree, "is an object of 64 bytes, not of 512"):
        bench.zone.deallocate(bench.objects[0], bench.layout_of(512))


def test_free_with_a_layout_that_has_no_class(bench: Bench) -> None:
    with bench.unharmed(InvalidLayout, "no size class serves"):
        bench.zone.deallocate(bench.objects[0], bench.layout_of(131073))


@pytest.mark.parametrize("address", ["0x1000", 4096.0, None])
def test_free_of_something_that_is_no_address(bench: Bench, address: object) -> None:
    with bench.unharmed(TypeError):
        bench.zone.deallocate(address, bench.layout)


def test_free_after_reclaim(bench: Bench) -> None:
    layout = bench.layout_of(128)
    address = bench.zone.allocate(layout)
    bench.zone.deallocate(address, layout)
    assert bench.zone.reclaim() == 1
    with bench.unharmed(InvalidFree, f"{address:#x} is on no page of"):
        bench.zone.deallocate(address, layout)


# ---- many frees: all or nothing ----------------------------------------------------------------------------------


def test_free_many_with_a_bad_one_in_the_middle(bench: Bench) -> None:
    first, second, third = bench.objects
    with bench.unharmed(InvalidFree, rf"addresses\[1\]: {second + 8:#x} is 8 bytes into slot 1"):
        bench.zone.deallocate_many([first, second + 8, third], bench.layout)
    with bench.unharmed(DoubleFree, rf"addresses\[3\]: {bench.freed:#x}"):
        bench.zone.deallocate_many(array("Q", [*bench.objects, bench.freed]), bench.layout)
    with bench.unharmed(InvalidFree, r"addresses\[2\]: 0x8 is on no page"):
        bench.zone.deallocate_many(iter([first, second, 8]), bench.layout)


def test_free_many_with_one_twice(bench: Bench) -> None:
    first, second, _ = bench.objects
    with bench.unharmed(DoubleFree, rf"addresses\[2\]: {first:#x}"):
        bench.zone.deallocate_many([first, second, first], bench.layout)


def test_free_many_with_something_that_is_no_address(bench: Bench) -> None:
    with bench.unharmed(TypeError):
        bench.zone.deallocate_many([*bench.objects, "8"], bench.layout)
    with bench.unharmed(InvalidFree, "on no page"):
        bench.zone.deallocate_many([*bench.objects, -8], bench.layout)


def test_free_many_with_a_wrong_layout(bench: Bench) -> None:
    with bench.unharmed(InvalidLayout, "no size class serves"):
        bench.zone.deallocate_many([], bench.layout_of(131073))
    with bench.unharmed(InvalidFree, r"addresses\[0\]: .* is an object of 64 bytes, not of 80"):
        bench.zone.deallocate_many(bench.objects, bench.layout_of(80))


# ---- layouts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, -(1 << 70), 1 << 63, 1 << 70])
def test_impossible_size(bench: Bench, size: int) -> None:
    with bench.unharmed(InvalidLayout, f"size {size} is not positive, or beyond any memory"):
        bench.layout_of(size)


@pytest.mark.parametrize("align", [0, -8, 3, 24, 1 << 63, 1 << 70])
def test_impossible_alignment(bench: Bench, align: int) -> None:
    with bench.unharmed(InvalidLayout, f"alignment {align} is not a power of two"):
        bench.layout_of(8, align)


@pytest.mark.parametrize(("size", "align"), [(8.0, 8), (8, "8"), (None, 1)])
def test_layout_of_something_else_than_ints(bench: Bench, size: Any, align: Any) -> None:
    with bench.unharmed(TypeError):
        bench.layout_of(size, align)


@pytest.mark.parametrize(("size", "align"), [(131073, 1), (1 << 40, 1), (8, 1 << 18), (131072, 1 << 21)])
def test_layout_that_no_class_serves(bench: Bench, size: int, align: int) -> None:
    layout = bench.layout_of(size, align)
    with bench.unharmed(InvalidLayout, f"no size class serves {size} bytes aligned to {align}"):
        bench.zone.allocate(layout)
    with bench.unharmed(InvalidLayout, f"no size class serves {size} bytes aligned to {align}"):
        bench.zone.allocate_many(layout, 3)
    with bench.unharmed(InvalidLayout, "no size class serves"):
        bench.zone.refill_large(layout, new_page(LargeObjectPage))


def test_buffer_of_no_size(bench: Bench) -> None:
    for size in (0, -1):
        with bench.unharmed(InvalidLayout, "is not positive"):
            bench.zone.buffer(size)
    with bench.unharmed(InvalidLayout, "no size class serves"):
        bench.zone.buffer(131073)
    with bench.unharmed(InvalidLayout, "not a power of two"):
        bench.zone.buffer(8, align=3)


# ---- pages -------------------------------------------------------------------------------------------------------


def test_refill_with_a_page_in_use(bench: Bench) -> None:
    other = bench.api.ZoneAllocator()
    page = new_page()
    other.refill(bench.layout, page)
    with bench.unharmed(InvalidPage, f"{page.address:#x}, in use by ZoneAllocator at {id(other):#x}"):
        bench.zone.refill(bench.layout, page)
    assert page.in_use


def test_refill_with_the_same_page_twice(bench: Bench) -> None:
    with bench.unharmed(InvalidPage, "in use by ZoneAllocator"):
        bench.zone.refill(bench.layout, bench.page)


def test_refill_with_another_page_over_the_same_memory(bench: Bench) -> None:
    twin = ObjectPage(bench.page.buffer)
    with bench.unharmed(InvalidPage, "carries a slab|overlaps|in use"):
        bench.zone.refill(bench.layout, twin)
    assert not twin.in_use


def test_refill_with_a_large_page_around_one_of_the_zone(bench: Bench) -> None:
    around = new_page(LargeObjectPage)
    inside = ObjectPage(around.buffer, 8192)
    zone = bench.api.ZoneAllocator()
    zone.refill(bench.layout, inside)
    with pytest.raises(InvalidPage, match=r"overlaps|in use"):
        zone.refill_large(bench.layout_of(1000), around)
    assert (inside.in_use, around.in_use) == (True, False)
    zone.audit()
    zone.close()
    zone = bench.api.ZoneAllocator()
    zone.refill_large(bench.layout_of(1000), around)
    with pytest.raises(InvalidPage, match=r"overlaps|in use"):
        zone.refill(bench.layout, inside)
    zone.audit()
    assert (inside.in_use, around.in_use) == (False, True)


def test_refill_with_a_page_that_carries_a_slab(bench: Bench) -> None:
    page = new_page()
    page.buffer[:] = bench.page.buffer
    with bench.unharmed(InvalidPage, "carries a slab|in use"):
        bench.zone.refill(bench.layout, page)
    assert not page.in_use


def test_refill_with_a_page_of_the_wrong_type(bench: Bench) -> None:
    for kind in (LargeObjectPage, page_type(8192)):
        page = new_page(kind)
        with bench.unharmed(InvalidLayout, f"objects of 64 bytes live on ObjectPage, not on <{kind.__name__}"):
            bench.zone.refill(bench.layout, page)
        assert not page.in_use
    with bench.unharmed(InvalidLayout, "objects of 512 bytes live on LargeObjectPage, not on"):
        bench.zone.refill_large(bench.layout_of(512), new_page())


def test_refill_with_the_layout_of_the_other_kind(bench: Bench) -> None:
    with bench.unharmed(InvalidLayout, "use refill_large"):
        bench.zone.refill(bench.layout_of(512), new_page(LargeObjectPage))
    with bench.unharmed(InvalidLayout, "use refill$"):
        bench.zone.refill_large(bench.layout, new_page())


@pytest.mark.parametrize("page", [bytearray(4096), None, 4096, ObjectPage])
def test_refill_with_no_page(bench: Bench, page: Any) -> None:
    with bench.unharmed(TypeError, "a page is needed"):
        bench.zone.refill(bench.layout, page)


def test_size_class_allocator_with_a_page_of_the_wrong_type(api: ModuleType) -> None:
    allocator = api.SCAllocator(64)
    with pytest.raises(InvalidLayout, match="objects of 64 bytes live on ObjectPage"):
        allocator.refill(new_page(LargeObjectPage))
    assert allocator.stats().mapped_bytes == 0


def test_restore_of_a_page_without_a_slab(bench: Bench) -> None:
    page = new_page()
    with bench.unharmed(InvalidPage, "carries no slab"):
        bench.zone.restore(page)
    assert not page.in_use


@pytest.mark.parametrize("at", [-1, -9, -10, -14, -18, -22, -26, -32])
def test_restore_of_a_page_with_a_torn_trailer(bench: Bench, at: int) -> None:
    page = new_page()
    page.buffer[:] = bench.page.buffer
    page.buffer[at] ^= 0x10
    with bench.unharmed(InvalidPage, "no slab|torn"):
        bench.zone.restore(page)
    assert not page.in_use


def test_restore_of_a_page_with_torn_bitmaps(bench: Bench) -> None:
    for at in (-48, -40):  # the bit of no slot in local; slots that are free both locally and remotely
        page = new_page()
        page.buffer[:] = bench.page.buffer
        page.buffer[at : at + 8] = b"\xff" * 8
        with bench.unharmed(InvalidPage, "torn"):
            bench.zone.restore(page)
        assert not page.in_use


def test_restore_of_a_slab_of_no_class_here(bench: Bench) -> None:
    kept = new_page()
    allocator = bench.api.SCAllocator(72)
    allocator.refill(kept)
    page = new_page()
    page.buffer[:] = kept.buffer
    with bench.unharmed(InvalidPage, "class"):
        bench.zone.restore(page)
    assert not page.in_use


def test_restore_of_a_slab_on_another_kind_of_page(bench: Bench) -> None:
    allocator = bench.api.SCAllocator(64, page_type(8192))
    kept, page = new_page(page_type(8192)), new_page(page_type(8192))
    allocator.refill(kept)
    page.buffer[:] = kept.buffer
    with bench.unharmed(InvalidPage, "class"):
        bench.zone.restore(page)


# ---- memory runs out ---------------------------------------------------------------------------------------------


def test_out_of_memory_without_a_pager(api: ModuleType) -> None:
    zone = api.ZoneAllocator()
    layout = api.Layout.from_size_align(64, 8)
    with pytest.raises(OutOfMemory, match="no slot of 64 bytes is free: refill with one more ObjectPage"):
        zone.allocate(layout)
    zone.refill(layout, new_page())
    taken = [zone.allocate(layout) for _ in range(63)]
    with pytest.raises(MemoryError):
        zone.allocate(layout)
    zone.audit()
    zone.deallocate(taken[30], layout)
    assert zone.allocate(layout) == taken[30]


def test_out_of_memory_in_the_middle_of_many(bench: Bench) -> None:
    bench.memory.limit = 3
    with bench.unharmed(OutOfMemory, "3 pages are out", new_pages=2):
        bench.zone.allocate_many(bench.layout, 200)
    assert bench.zone.stats().empty_pages == 2
    assert len(bench.zone.allocate_many(bench.layout, 3 * 63 - 3)) == 3 * 63 - 3


def test_out_of_memory_in_the_middle_of_many_without_a_pager(api: ModuleType) -> None:
    zone = api.ZoneAllocator()
    layout = api.Layout.from_size_align(64, 8)
    zone.refill(layout, new_page())
    with pytest.raises(OutOfMemory):
        zone.allocate_many(layout, 64)
    zone.audit()
    assert (zone.stats().live_objects, zone.stats().empty_pages) == (0, 1)
    assert len(set(zone.allocate_many(layout, 63))) == 63


def test_negative_counts(bench: Bench) -> None:
    with bench.unharmed(ValueError, "-1"):
        bench.zone.allocate_many(bench.layout, -1)
    with bench.unharmed(ValueError, "-1"):
        bench.zone.try_reclaim_base_pages(-1, pytest.fail)
    with bench.unharmed(ValueError, "-1"):
        bench.zone.try_reclaim_large_pages(-1, pytest.fail)


def test_reclaim_without_a_pager(api: ModuleType) -> None:
    with pytest.raises(ValueError, match="no pager"):
        api.ZoneAllocator().reclaim()


# ---- pagers that misbehave ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("junk", [42, "page", b"\0" * 4096, ObjectPage, object()])
def test_pager_that_returns_junk(bench: Bench, junk: object) -> None:
    bench.memory.trouble = junk
    with bench.unharmed(InvalidPage, "Memory object .* returned .*, which is no ObjectPage"):
        bench.zone.allocate(bench.layout_of(128))


def test_pager_that_returns_nothing(api: ModuleType) -> None:
    class Silent(Memory):
        def allocate_page(self, page_type: Any = ObjectPage) -> Any:
            assert page_type is ObjectPage

    zone = api.ZoneAllocator(Silent())
    with pytest.raises(InvalidPage, match="returned None"):
        zone.allocate(api.Layout.from_size_align(8, 8))
    zone.audit()


def test_pager_that_returns_a_page_of_the_wrong_type(bench: Bench) -> None:
    bench.memory.trouble = new_page(LargeObjectPage)
    with bench.unharmed(InvalidPage, "returned <LargeObjectPage"):
        bench.zone.allocate(bench.layout_of(128))


def test_pager_that_returns_a_page_in_use(bench: Bench) -> None:
    bench.memory.trouble = bench.page
    with bench.unharmed(InvalidPage, "in use"):
        bench.zone.allocate(bench.layout_of(128))


def test_pager_that_raises(bench: Bench) -> None:
    bench.memory.trouble = ConnectionError("the pager is elsewhere")
    with bench.unharmed(ConnectionError, "elsewhere"):
        bench.zone.allocate(bench.layout_of(128))
    bench.memory.trouble = KeyboardInterrupt()
    with bench.unharmed(KeyboardInterrupt):
        bench.zone.allocate_many(bench.layout, 100)


def test_pager_that_has_no_more(bench: Bench) -> None:
    bench.memory.limit = 1
    with bench.unharmed(OutOfMemory, "1 pages are out"):
        bench.zone.allocate(bench.layout_of(128))


def test_dealloc_that_raises(api: ModuleType) -> None:
    pages = [new_page() for _ in range(3)]
    zone = api.ZoneAllocator()
    for page in pages:
        zone.refill(api.Layout.from_size_align(8, 8), page)

    def refuse(page: object) -> None:
        raise ConnectionError(repr(page))

    with pytest.raises(ConnectionError):
        zone.try_reclaim_base_pages(3, refuse)
    zone.audit()
    assert [page.in_use for page in pages] == [True, True, False], "only the page that was given away has left"
    assert zone.try_reclaim_base_pages(3, lambda _: None) == 2


# ---- the end -----------------------------------------------------------------------------------------------------


def test_zone_dropped_with_live_buffers(api: ModuleType) -> None:
    memory = Memory()
    zone = api.ZoneAllocator(memory)
    buffer = zone.buffer(100)
    del zone
    gc.collect()
    assert memory.pages_in_use == 1, "the buffer keeps the zone, and the zone the page"
    assert not buffer.released
    del buffer
    gc.collect()
    assert memory.pages_in_use == 0


def test_zone_and_buffers_that_end_in_one_cycle(api: ModuleType) -> None:
    memory = Memory()
    zone = api.ZoneAllocator(memory)
    zone.kept = [zone.buffer(64), zone.buffer(64)]
    del zone
    gc.collect()
    assert memory.pages_in_use == 0
    assert not any(page.in_use for page in memory.pages)


def test_zone_closed_with_live_buffers(bench: Bench) -> None:
    buffer = bench.zone.buffer(64, 8)
    bench.objects.append(buffer)
    with pytest.raises(BufferError, match="1 buffers still use"):
        bench.zone.close()
    bench.zone.audit()
    buffer.release()
    bench.zone.close()
    assert bench.memory.pages_in_use == 0


def test_zone_dropped_with_live_objects(api: ModuleType) -> None:
    memory = Memory()
    zone = api.ZoneAllocator(memory)
    zone.allocate_many(api.Layout.from_size_align(64, 8), 100)
    assert memory.pages_in_use == 2
    del zone
    gc.collect()
    assert memory.pages_in_use == 0
    assert not any(page.in_use for page in memory.pages)


def test_closed_zone(bench: Bench) -> None:
    zone, page = bench.zone, new_page()
    zone.close()
    zone.close()
    assert zone.closed
    assert bench.memory.pages_in_use == 0
    uses: list[Callable[[], object]] = [
        lambda: zone.allocate(bench.layout),
        lambda: zone.allocate_many(bench.layout, 1),
        lambda: zone.deallocate(bench.objects[0], bench.layout),
        lambda: zone.deallocate_many(bench.objects, bench.layout),
        lambda: zone.refill(bench.layout, page),
        lambda: zone.restore(page),
        lambda: zone.try_reclaim_base_pages(1, pytest.fail),
        lambda: zone.reclaim(),
        lambda: zone.buffer(8),
        lambda: zone.stats(),
        lambda: zone.audit(),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="this ZoneAllocator is closed"):
            use()
    assert not page.in_use
    assert repr(zone) == "<ZoneAllocator, closed>"


def test_released_buffer(bench: Bench) -> None:
    buffer = bench.zone.buffer(64, 8)
    assert buffer.address == bench.freed
    buffer.release()
    buffer.release()
    assert buffer.released
    with bench.unharmed(ValueError, "this buffer is released"):
        _ = buffer.address
    with bench.unharmed(ValueError, "this buffer is released"), buffer:
        pass
