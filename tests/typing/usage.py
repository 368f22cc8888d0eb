# SPDX-License-Identifier: MIT
"""What a strict type checker makes of the package in a client's hands; `test_typing.py` has mypy read it.

Nothing here runs. Each `type: ignore` is a misuse that must be found: mypy reports the ones that are not needed.
"""

from __future__ import annotations

from array import array
from typing import Any, assert_type

import numpy

import slabmalloc
from slabmalloc import (
    Buffer,
    ClassStats,
    DoubleFree,
    InvalidFree,
    LargeObjectPage,
    Layout,
    MmapPager,
    ObjectCache,
    ObjectPage,
    OutOfMemory,
    Page,
    Pager,
    SCAllocator,
    SizeClasses,
    ZoneAllocator,
    ZoneStats,
    page_type,
)


class OwnPager:
    """A client's pager: two methods, no base class."""

    def allocate_page(self, page_type: type[Page] = ObjectPage) -> Page:
        return page_type(bytearray(2 * page_type.SIZE))

    def release_page(self, page: Page) -> None: ...


def layouts() -> None:
    layout = Layout.from_size_align(64, 8)
    assert_type(layout, Layout)
    assert_type(layout.size, int)
    assert_type(Layout.for_dtype("f8", (2, 3)), Layout)
    assert_type({layout: 1}[layout], int)
    layout.size = 8  # type: ignore[misc]
    Layout.from_size_align("64", 8)  # type: ignore[arg-type]


def pages() -> None:
    assert_type(ObjectPage.SIZE, int)
    assert_type(ObjectPage(bytearray(8192), 4096).address, int)
    assert_type(page_type(65536), type[Page])
    ObjectPage("text")  # type: ignore[arg-type]


def zones() -> None:
    zone = ZoneAllocator(MmapPager(), size_classes=SizeClasses.default())
    layout = Layout.from_size_align(64, 8)
    assert_type(zone.allocate(layout), int)
    assert_type(zone.allocate_many(layout, 10), array[int])
    zone.deallocate_many([1, 2, 3], layout)
    zone.deallocate_many(array("Q"), layout)
    assert_type(zone.get_max_size(100), int | None)
    assert_type(zone.MAX_ALLOC_SIZE, int)
    assert_type(zone.reclaim(), int)
    assert_type(zone.try_reclaim_base_pages(1, print), int)
    assert_type(zone.stats(), ZoneStats)
    assert_type(zone.stats().classes, tuple[ClassStats, ...])
    zone.refill(layout, ObjectPage(bytearray(8192)))
    zone.refill_large(layout, LargeObjectPage(bytearray(1 << 22)))
    with zone as same:
        assert_type(same, ZoneAllocator)
    zone.allocate(64)  # type: ignore[arg-type]
    zone.deallocate("0x1000", layout)  # type: ignore[arg-type]
    zone.refill(layout, bytearray(4096))  # type: ignore[arg-type]


def pagers() -> None:
    own: Pager = OwnPager()
    assert_type(own.allocate_page(ObjectPage), Page)
    allocator = SCAllocator(64, ObjectPage, own)
    assert_type(allocator.objects_per_page, int)
    assert_type(allocator.try_reclaim_pages(1, own.release_page), int)
    ZoneAllocator(slabmalloc.LimitingPager(slabmalloc.StatisticsPager(own), max_bytes=1 << 20))
    ZoneAllocator(object())  # type: ignore[arg-type]


def buffers(zone: ZoneAllocator) -> None:
    with zone.buffer(64, align=64) as buffer:
        assert_type(buffer, Buffer)
        assert_type(memoryview(buffer)[0], int)
        assert_type(buffer.address, int)
        assert_type(len(buffer), int)
    assert_type(buffer.released, bool)
    assert_type(zone.array((2, 3), "f8"), numpy.ndarray[Any, Any])
    numpy.frombuffer(memoryview(buffer), numpy.float64)


def caches(zone: ZoneAllocator) -> None:
    def construct(address: int) -> None: ...

    with ObjectCache(zone, Layout.from_size_align(64, 8), construct) as cache:
        assert_type(cache.allocate(), int)
        assert_type(cache.reclaim(), int)
    ObjectCache(zone, Layout.from_size_align(64, 8), lambda text: text.upper())  # type: ignore[attr-defined]


def errors() -> None:
    try:
        raise DoubleFree
    except InvalidFree as error:
        as_value_error: ValueError = error
    try:
        raise OutOfMemory
    except OutOfMemory as error:
        as_memory_error: MemoryError = error
    del as_value_error, as_memory_error
