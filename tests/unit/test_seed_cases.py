# SPDX-License-Identifier: MIT
"""What the seed (the Rust crate slabmalloc) tests, thought anew for this library, on both forms.

The seed looks into its lists and bitmaps; here the statistics and the audit say the same from outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from forms import Memory, new_page
from slabmalloc.errors import InvalidLayout, OutOfMemory
from slabmalloc.pages import LargeObjectPage, ObjectPage, Page

if TYPE_CHECKING:
    from types import ModuleType


def test_pages_have_the_size_they_say(memory: Memory) -> None:
    for kind, size in ((ObjectPage, 4096), (LargeObjectPage, 2 << 20)):
        page = memory.allocate_page(kind)
        assert (kind.SIZE, page.size, len(page.buffer)) == (size, size, size)


@pytest.mark.parametrize("kind", [ObjectPage, LargeObjectPage])
def test_fresh_page_is_neither_used_nor_full(api: ModuleType, memory: Memory, kind: type[Page]) -> None:
    page = memory.allocate_page(kind)
    assert (page.in_use, memory.pages_in_use) == (False, 1)
    allocator = api.SCAllocator(8, kind)
    allocator.refill(page)
    stats = allocator.stats()
    assert (stats.empty_pages, stats.partial_pages, stats.full_pages) == (1, 0, 0)
    assert allocator.try_reclaim_pages(1, memory.release_page) == 1
    assert (page.in_use, memory.pages_in_use) == (False, 0)


# Size, alignment, how many, and on which page. A class serves the alignments that divide it: the seed's class of 8
# bytes gives an object aligned to 64 every eighth slot; ours of 64 bytes gives every slot.
SMALL = [
    (8, 1, 512),
    (8, 8, 4096),
    (64, 64, 500),
    (12, 1, 4096),
    (13, 1, 4096),
    (14, 1, 2000),
    (15, 1, 4096),
    (16, 1, 8000),
    (24, 1, 1024),
    (32, 1, 3090),
    (64, 1, 4096),
    (512, 1, 1000),
    (1024, 1, 4096),
    (2048, 1, 10),
    (512, 1, 10000),
]
LARGE = [
    (8, 1, 1024),
    (4096, 4096, 2048),
    (8192, 4096, 4096),
    (16384, 4096, 4096),
    (32768, 4096, 4096),
    (65536, 4096, 4096),
    (131072, 4096, 4096),
]
RUNS = [pytest.param(*run, ObjectPage, id="small-" + "-".join(map(str, run))) for run in SMALL]
RUNS += [pytest.param(*run, LargeObjectPage, id="large-" + "-".join(map(str, run))) for run in LARGE]


def fill(allocator: Any, layout: Any, count: int, memory: Memory) -> list[int]:
    """Allocates `count` objects and refills on OutOfMemory, as a caller without a pager does."""
    addresses: list[int] = []
    while len(addresses) < count:
        try:
            addresses.append(allocator.allocate(layout))
        except OutOfMemory:
            allocator.refill(memory.allocate_page(allocator.page_type))
    return addresses


def assert_no_overlap(addresses: list[int], size: int, memory: Memory) -> None:
    """Writes each object's number to both its ends: whoever overlaps another overwrites one."""
    width = min(4, size // 2)
    ends = []
    for address in addresses:
        page, start = memory.place_of(address)
        view = memory.pages[page].buffer
        ends.append((view[start : start + width], view[start + size - width : start + size]))
    numbers = [(number % 256**width).to_bytes(width, "little") for number in range(len(addresses))]
    for (head, tail), number in zip(ends, numbers, strict=True):
        head[:] = tail[:] = number
    assert all(head == tail == number for (head, tail), number in zip(ends, numbers, strict=True))


@pytest.mark.parametrize(("size", "align", "count", "kind"), RUNS)
def test_fill_free_and_fill_again(
    api: ModuleType, memory: Memory, size: int, align: int, count: int, kind: type[Page]
) -> None:
    allocator = api.SCAllocator(size, kind)
    layout = api.Layout.from_size_align(size, align)
    addresses = fill(allocator, layout, count, memory)
    assert len(set(addresses)) == count
    assert all(address % align == 0 for address in addresses)

    assert_no_overlap(addresses, size, memory)

    pages = memory.pages_in_use
    assert pages == -(-count // allocator.objects_per_page)
    for address in addresses:
        allocator.deallocate(address, layout)
    allocator.audit()
    addresses = fill(allocator, layout, count, memory)
    assert memory.pages_in_use == pages, "the second run needs no more pages"
    allocator.deallocate_many(addresses, layout)
    assert allocator.stats().conserved
    assert allocator.try_reclaim_pages(pages + 1, memory.release_page) == pages
    assert memory.pages_in_use == 0


def test_class_does_not_serve_an_alignment_that_does_not_divide_it(api: ModuleType) -> None:
    with pytest.raises(InvalidLayout):
        api.SCAllocator(8).allocate(api.Layout.from_size_align(8, 64))


def test_alignment_is_a_power_of_two(api: ModuleType) -> None:
    with pytest.raises(InvalidLayout):
        api.Layout.from_size_align(10, 3)


def test_readme_zone(api: ModuleType) -> None:
    layout = api.Layout.from_size_align(12, 4)
    zone = api.ZoneAllocator()
    zone.refill(layout, new_page())
    zone.deallocate(zone.allocate(layout), layout)


def test_readme_size_class(api: ModuleType) -> None:
    allocator = api.SCAllocator(10)
    allocator.refill(new_page())
    assert allocator.allocate(api.Layout.from_size_align(10, 8)) % 8 == 0


def test_layouts_of_one_class_may_be_mixed(api: ModuleType) -> None:
    one, two, four = (api.Layout.from_size_align(size, 1) for size in (1, 2, 4))
    allocator = api.SCAllocator(8)
    allocator.refill(new_page())
    first, second = allocator.allocate(one), allocator.allocate(two)
    allocator.deallocate(first, one)
    assert allocator.allocate(four) == first
    allocator.deallocate(second, two)
    assert allocator.stats().live_objects == 1


def test_first_object_lies_at_the_beginning_of_the_page(api: ModuleType) -> None:
    page = new_page()
    allocator = api.SCAllocator(8)
    allocator.refill(page)
    assert allocator.allocate(api.Layout.from_size_align(8, 8)) == page.address


def test_empty_pages_leave_in_the_order_of_a_stack(api: ModuleType) -> None:
    one, two, three, four = (new_page() for _ in range(4))
    allocator = api.SCAllocator(8)
    left: list[Page] = []
    for page in (one, two, three):
        allocator.refill(page)
    assert [page.in_use for page in (one, two, three, four)] == [True, True, True, False]
    allocator.try_reclaim_pages(2, left.append)
    assert left == [three, two]
    assert [page.in_use for page in (one, two, three)] == [True, False, False]
    allocator.refill(four)
    assert allocator.try_reclaim_pages(10, left.append) == 2
    assert left == [three, two, four, one]
    assert allocator.try_reclaim_pages(10, left.append) == 0
    assert not any(page.in_use for page in left)


def test_allocator_without_a_page_has_nothing_to_say(api: ModuleType) -> None:
    allocator = api.SCAllocator(8)
    allocator.audit()
    assert allocator.stats().classes == ()
    assert allocator.try_reclaim_pages(1, pytest.fail) == 0


@pytest.mark.parametrize("size", [8, 512])
def test_page_is_full_with_its_last_slot_and_not_before(api: ModuleType, size: int) -> None:
    allocator = api.SCAllocator(size)
    allocator.refill(new_page())
    layout = api.Layout.from_size_align(size, 1)
    for taken in range(1, allocator.objects_per_page + 1):
        allocator.allocate(layout)
        stats = allocator.stats()
        is_full = taken == allocator.objects_per_page
        assert (stats.empty_pages, stats.partial_pages, stats.full_pages) == (0, int(not is_full), int(is_full))
    with pytest.raises(OutOfMemory):
        allocator.allocate(layout)


def test_issue_9_each_class_asks_for_its_own_page(api: ModuleType) -> None:
    zone = api.ZoneAllocator()
    seen: set[int] = set()
    # The second to last shares the class of the one before it, and so needs no page.
    for size, align, needs_page in ((256, 1, True), (48, 8, True), (6, 1, True), (8, 1, False), (16, 1, True)):
        layout = api.Layout.from_size_align(size, align)
        if needs_page:
            with pytest.raises(OutOfMemory):
                zone.allocate(layout)
            zone.refill(layout, new_page())
        address = zone.allocate(layout)
        assert address % align == 0
        assert address not in seen
        seen.add(address)
    zone.audit()
