# SPDX-License-Identifier: MIT
"""What the specification says, by examples worked out by hand: which slot is next, what lies in a page, what counts.

The model tests compare the native form with the reference; these hold both to what was promised.
"""

from __future__ import annotations

import copy
import gc
import os
import pickle
import struct
import subprocess
import sys
from array import array
from typing import TYPE_CHECKING, Any

import pytest

from forms import EXPECTED_WARNING, FORMS, Memory, RetainingMemory, new_page
from slabmalloc import errors, pages, reference, size_classes
from slabmalloc.errors import InvalidPage, OutOfMemory
from slabmalloc.pages import LargeObjectPage, Page, page_type
from slabmalloc.size_classes import SizeClasses
from slabmalloc.zone_stats import ClassStats, ZoneStats

if TYPE_CHECKING:
    from types import ModuleType


class Shelf:
    """An allocator of 400-byte objects, ten to a page, with `count` pages; objects are told as (page, slot)."""

    def __init__(self, api: ModuleType, count: int) -> None:
        self.memory = Memory()
        self.layout = api.Layout.from_size_align(400, 8)
        self.allocator: Any = api.SCAllocator(400)
        assert self.allocator.objects_per_page == 10
        for _ in range(count):
            self.allocator.refill(self.memory.allocate_page())

    def take(self, count: int = 1) -> list[tuple[int, int]]:
        places = [self.memory.place_of(self.allocator.allocate(self.layout)) for _ in range(count)]
        return [(page, offset // 400) for page, offset in places]

    def free(self, page: int, *slots: int) -> None:
        for slot in slots:
            self.allocator.deallocate(self.memory.address_of((page, 400 * slot)), self.layout)


# ---- which slot is next ------------------------------------------------------------------------------------------


def test_lowest_free_slot_first(api: ModuleType) -> None:
    shelf = Shelf(api, 1)
    assert shelf.take(10) == [(0, slot) for slot in range(10)]
    shelf.free(0, 7, 2, 5)
    assert shelf.take(3) == [(0, 2), (0, 5), (0, 7)]
    shelf.free(0, 9)
    shelf.free(0, 3)
    assert shelf.take() == [(0, 3)]
    shelf.free(0, 1)
    assert shelf.take(2) == [(0, 1), (0, 9)]


def test_last_page_in_is_the_first_used(api: ModuleType) -> None:
    assert Shelf(api, 3).take(21)[::10] == [(2, 0), (1, 0), (0, 0)]


def test_fullest_page_is_filled_up_before_sparser_ones_and_empty_ones(api: ModuleType) -> None:
    shelf = Shelf(api, 5)
    shelf.take(41)  # page 0 is current; 1 ... 4 are full
    shelf.free(4, *range(10))  # empty
    shelf.free(3, *range(9))  # one object
    shelf.free(2, 0, 1)  # eight objects: the fullest quarter
    shelf.free(1, *range(5))  # five
    shelf.take(9)
    assert shelf.take(2) == [(2, 0), (2, 1)]
    assert shelf.take(5) == [(1, slot) for slot in range(5)]
    assert shelf.take(9) == [(3, slot) for slot in range(9)]
    assert shelf.take(10) == [(4, slot) for slot in range(10)]
    with pytest.raises(OutOfMemory):
        shelf.take()


def test_within_a_quarter_the_page_that_came_first_is_first(api: ModuleType) -> None:
    shelf = Shelf(api, 4)
    shelf.take(31)
    for page in (3, 1, 2):
        shelf.free(page, 0)
    shelf.free(3, 1)  # two free are the same quarter as one: no move
    shelf.take(9)
    assert shelf.take(4) == [(3, 0), (3, 1), (1, 0), (2, 0)]


def test_current_page_stays_current_when_it_becomes_empty(api: ModuleType) -> None:
    shelf = Shelf(api, 2)
    shelf.take(11)
    shelf.free(1, 4)
    shelf.free(0, 0)  # the current page is empty now, and another is not
    assert shelf.take() == [(0, 0)]


def test_current_page_stays_when_memory_runs_out(api: ModuleType) -> None:
    shelf = Shelf(api, 1)
    shelf.take(10)
    with pytest.raises(OutOfMemory):
        shelf.take()
    shelf.free(0, 6)
    shelf.allocator.refill(shelf.memory.allocate_page())
    assert shelf.take(2) == [(0, 6), (1, 0)]


def test_empty_pages_leave_and_the_current_one_last(api: ModuleType) -> None:
    shelf = Shelf(api, 3)
    shelf.take(1)
    shelf.free(2, 0)
    left: list[int] = []
    assert shelf.allocator.try_reclaim_pages(9, lambda page: left.append(shelf.memory.pages.index(page))) == 3
    assert left == [1, 0, 2]


def test_many_come_in_the_order_of_as_many_calls(api: ModuleType) -> None:
    one, other = Shelf(api, 3), Shelf(api, 3)
    addresses = one.allocator.allocate_many(one.layout, 25)
    assert isinstance(addresses, array)
    assert addresses.typecode == "Q"
    assert [one.memory.place_of(address) for address in addresses] == [(page, 400 * at) for page, at in other.take(25)]
    assert len(one.allocator.allocate_many(one.layout, 0)) == 0


@pytest.mark.parametrize("kind", ["list", "array", "iterator", "memoryview", "numpy"])
def test_many_go_in_any_form(api: ModuleType, kind: str) -> None:
    shelf = Shelf(api, 3)
    addresses = shelf.allocator.allocate_many(shelf.layout, 25)
    given: Any = {"list": list, "array": array, "iterator": iter, "memoryview": memoryview}.get(kind)
    if kind == "numpy":
        given = pytest.importorskip("numpy").array(addresses)
    else:
        given = given("Q", addresses) if kind == "array" else given(addresses)
    shelf.allocator.deallocate_many(given, shelf.layout)
    assert shelf.allocator.stats().live_objects == 0
    shelf.allocator.deallocate_many([], shelf.layout)
    shelf.allocator.audit()


# ---- what lies in a page -----------------------------------------------------------------------------------------


def test_meta_data_of_a_page(api: ModuleType) -> None:
    shelf = Shelf(api, 1)
    shelf.take(3)
    check = (0x316C616D62616C73 ^ (400 << 32 | 10)) * 0x9E3779B97F4A7C15 % 2**64 ^ 4096
    local, remote, *trailer = struct.unpack("=QQ8sIIIIQ", shelf.memory.pages[0].buffer[-48:])
    assert (local, remote) == (0b1111111000, 0)
    assert trailer == [b"slabmal1", 400, 10, 4096, 0, check]


def test_bitmap_of_several_levels(api: ModuleType) -> None:
    allocator = api.SCAllocator(8, page_type(65536))
    page = new_page(page_type(65536))
    allocator.refill(page)
    assert allocator.objects_per_page == 7934  # 123 * 64 + 62, which makes 124 words, 2 above and 1 on top
    allocator.allocate_many(api.Layout.from_size_align(8, 8), 65 * 64)
    words = struct.unpack("=127Q", page.buffer[-32 - 2 * 127 * 8 : -32 - 127 * 8])
    assert words[:65] == (0,) * 65
    assert words[65:124] == (*[2**64 - 1] * 58, 2**62 - 1)
    if api is reference:  # the summary is its owner's own: the native form keeps the top of it in a record elsewhere
        assert words[124:126] == (0, 2**60 - 2), "a bit for each word of the level below that is not zero"
        assert words[126] == 2


def test_page_that_leaves_carries_no_slab(api: ModuleType) -> None:
    page = new_page()
    for _ in range(2):
        with api.ZoneAllocator() as zone:
            zone.refill(api.Layout.from_size_align(8, 8), page)
            assert bytes(page.buffer[-32:-24]) == b"slabmal1"
        assert bytes(page.buffer[-32:-24]) == bytes(8)


@pytest.mark.parametrize("reader", FORMS)
@pytest.mark.parametrize("writer", FORMS)
def test_page_of_one_form_is_restored_by_the_other(writer: str, reader: str) -> None:
    writing, reading = FORMS[writer], FORMS[reader]
    if writing is None or reading is None:
        pytest.skip("the extension can't be loaded here")
    memory = RetainingMemory()
    kept = writing.Layout.from_size_align(100, 8)
    with writing.ZoneAllocator(memory) as zone:
        addresses = zone.allocate_many(kept, 60)
        zone.deallocate_many(addresses[::2], kept)
        zone.deallocate(zone.allocate(writing.Layout.from_size_align(9, 1)), writing.Layout.from_size_align(9, 1))
        before = zone.stats()
    assert memory.pages_in_use == 2, "the pages with live objects; the empty one was released"
    with reading.ZoneAllocator(memory) as zone:
        after = zone.stats()
        assert (after.live_objects, after.live_bytes, after.full_pages, after.partial_pages) == (30, 3360, 0, 2)
        assert after.free_bytes == before.free_bytes
        kept = reading.Layout.from_size_align(100, 8)
        others = zone.allocate_many(kept, 2 * 36 - 30)
        assert {*addresses[::2]} < {*others}, "the slots that were free, and no other"
        assert not {*addresses[1::2]} & {*others}
        zone.deallocate_many(addresses, kept)
        zone.audit()


def test_failed_restore_when_a_zone_is_made_leaves_the_pages_to_the_pager(api: ModuleType) -> None:
    memory = RetainingMemory()
    layout = api.Layout.from_size_align(8, 8)
    with api.ZoneAllocator(memory) as zone:
        zone.allocate(layout)
    with pytest.raises(InvalidPage, match="class"):
        api.ZoneAllocator(memory, size_classes=SizeClasses.from_sizes([64]))
    assert not any(page.in_use for page in memory.pages)


# ---- what is counted ---------------------------------------------------------------------------------------------


def test_statistics(api: ModuleType) -> None:
    shelf = Shelf(api, 4)
    shelf.take(23)
    shelf.free(3, 0)
    stats = shelf.allocator.stats()
    (row,) = stats.classes
    assert (row.object_bytes, row.page_bytes, row.capacity) == (400, 4096, 10)
    assert (row.empty_pages, row.partial_pages, row.full_pages) == (1, 2, 1)
    assert (row.live_objects, row.live_bytes, row.free_bytes) == (22, 8800, 8 * 400)
    assert (row.metadata_bytes, row.tail_bytes) == (3 * 48, 3 * 48)
    assert (row.empty_bytes, row.mapped_bytes) == (4096, 4 * 4096)
    assert (row.pages_taken, row.pages_returned, row.occupancy) == (4, 0, 22 / 40)
    assert row.conserved
    assert stats.conserved
    assert (stats.live_bytes, stats.mapped_bytes) == (8800, 16384)
    assert stats.to_dict()["classes"][0]["capacity"] == 10
    assert str(stats).splitlines()[1].split()[:5] == ["400", "22", "1", "2", "1"]
    assert "NOT CONSERVED" not in str(stats)


def test_statistics_that_do_not_add_up_say_so() -> None:
    row = ClassStats(64, 4096, 63, live_objects=1, live_bytes=64, mapped_bytes=4096, full_pages=1, pages_taken=1)
    stats = ZoneStats.from_classes([row])
    assert not stats.conserved
    assert str(stats).endswith("do not add up to its mapped bytes")


def test_statistics_of_several_classes(api: ModuleType) -> None:
    zone = api.ZoneAllocator(Memory())
    for size in (8, 100, 1000, 100):
        zone.allocate(api.Layout.from_size_align(size, 1))
    stats = zone.stats()
    assert [(row.object_bytes, row.live_objects) for row in stats.classes] == [(8, 1), (112, 2), (1024, 1)]
    assert stats.mapped_bytes == 2 * 4096 + (2 << 20)


def test_audit_notices_a_page_overwritten_at_its_end(api: ModuleType) -> None:
    shelf = Shelf(api, 2)
    shelf.take(12)
    shelf.allocator.audit()
    for page in shelf.memory.pages:
        for at in (-1, -32, -48):  # check, magic, free slots
            page.buffer[at] ^= 1
            if page is shelf.memory.pages[1] or at != -48:  # of the current page nobody else knows what is free
                with pytest.raises(RuntimeError, match="is corrupt"):
                    shelf.allocator.audit()
            page.buffer[at] ^= 1
    shelf.allocator.audit()


# ---- zones and layouts -------------------------------------------------------------------------------------------


def test_limits_of_a_zone(api: ModuleType) -> None:
    assert (api.ZoneAllocator.MAX_ALLOC_SIZE, api.ZoneAllocator.MAX_BASE_ALLOC_SIZE) == (131072, 256)
    zone = api.ZoneAllocator(size_classes=SizeClasses.from_sizes([16, 512], max_base_size=512))
    assert (zone.MAX_ALLOC_SIZE, zone.MAX_BASE_ALLOC_SIZE) == (512, 512)
    assert [zone.get_max_size(size) for size in (1, 16, 17, 512, 513)] == [16, 16, 512, 512, None]


def test_pages_by_kind_and_class(api: ModuleType) -> None:
    zone = api.ZoneAllocator()
    left: list[Page] = []
    small, large = api.Layout.from_size_align(10, 2), api.Layout.from_size_align(257, 1)
    one, two, three = new_page(), new_page(LargeObjectPage), new_page()
    zone.refill(small, one)
    zone.refill_large(large, two)
    zone.refill(api.Layout.from_size_align(256, 256), three)
    assert zone.try_reclaim_large_pages(2, left.append) == 1
    assert zone.try_reclaim_base_pages(2, left.append) == 2
    assert left == [two, one, three], "classes in ascending order"


def test_every_page_goes_back_to_the_pager(api: ModuleType) -> None:
    memory = Memory()
    zone = api.ZoneAllocator(memory)
    layouts = [api.Layout.from_size_align(size, 1) for size in (8, 300, 5000)]
    addresses = [zone.allocate(layout) for layout in layouts]
    assert memory.pages_in_use == 3
    zone.deallocate(addresses[1], layouts[1])
    assert (zone.reclaim(), memory.pages_in_use) == (1, 2)
    assert zone.reclaim() == 0
    zone.close()
    assert memory.pages_in_use == 0


def test_alignment_is_kept(api: ModuleType) -> None:
    zone = api.ZoneAllocator(Memory())
    for shift in range(18):
        for size in (1, 100, 5000, 100_000):
            layout = api.Layout.from_size_align(size, 1 << shift)
            assert all(address % layout.align == 0 for address in zone.allocate_many(layout, 3))


def test_layout(api: ModuleType) -> None:
    layout = api.Layout.from_size_align(64, 8)
    assert (layout.size, layout.align, repr(layout)) == (64, 8, "Layout(size=64, align=8)")
    assert layout == api.Layout.from_size_align(64, 8)
    assert len({layout, api.Layout.from_size_align(64, 8), api.Layout.from_size_align(64, 4)}) == 2
    with pytest.raises(AttributeError):
        layout.size = 65
    assert copy.copy(layout) == pickle.loads(pickle.dumps(layout)) == layout


def test_layout_of_an_array(api: ModuleType) -> None:
    for_dtype = api.Layout.for_dtype
    assert (for_dtype("d", (3, 4)).size, for_dtype("d", 5).size, for_dtype("B").size) == (96, 40, 1)
    numpy = pytest.importorskip("numpy")
    record = numpy.dtype([("key", "u1"), ("value", "f8")], align=True)
    assert (for_dtype(record, [7]).size, for_dtype(record).align) == (7 * 16, 8)
    assert for_dtype("complex128", 2).size == 32


def test_repr(api: ModuleType) -> None:
    zone = api.ZoneAllocator(Memory())
    zone.allocate_many(api.Layout.from_size_align(64, 8), 100)
    assert repr(zone) == "<ZoneAllocator with 100 objects on 2 pages, 8 KiB>"


# ---- buffers -----------------------------------------------------------------------------------------------------


def test_array_keeps_its_memory(api: ModuleType) -> None:
    numpy = pytest.importorskip("numpy")
    zone = api.ZoneAllocator(Memory())
    values = zone.array((3, 4), "f8")
    values[:] = numpy.arange(12).reshape(3, 4)
    row = values[1]
    del values
    gc.collect()
    assert zone.stats().live_objects == 1
    assert row.tolist() == [4, 5, 6, 7]
    del row
    gc.collect()
    assert zone.stats().live_objects == 0


def test_buffer_seen_by_numpy(api: ModuleType) -> None:
    numpy = pytest.importorskip("numpy")
    zone = api.ZoneAllocator(Memory())
    buffer = zone.buffer(100, 64)
    seen = numpy.asarray(buffer)
    assert (seen.shape, seen.dtype, seen.ctypes.data, buffer.address % 64) == ((100,), "u1", buffer.address, 0)
    with pytest.raises(BufferError):
        buffer.release()
    del buffer
    gc.collect()
    assert zone.stats().live_objects == 1, "the array keeps the memory"
    del seen
    gc.collect()
    assert zone.stats().live_objects == 0


def test_buffer_of_the_reference() -> None:
    zone = reference.ZoneAllocator(Memory())
    with zone.buffer(5) as buffer:
        buffer.memory[:] = b"hello"
        assert (len(buffer), buffer.nbytes, bytes(buffer.memory)) == (5, 5, b"hello")
        view = buffer.memory
        with pytest.raises(BufferError, match="still uses <Buffer of 5 bytes at"):
            buffer.release()
        assert view.tobytes() == b"hello"
        del view
    assert repr(buffer) == "<Buffer of 5 bytes, released>"
    with pytest.raises(ValueError, match="released"):
        _ = buffer.memory


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ came with 3.12")
def test_buffer_of_the_reference_is_a_buffer() -> None:
    buffer = reference.ZoneAllocator(Memory()).buffer(5)
    memoryview(buffer)[:] = b"hello"
    assert bytes(buffer) == b"hello"


# ---- one mechanism, two forms ------------------------------------------------------------------------------------


def test_forms_share_errors_pages_and_size_classes(api: ModuleType) -> None:
    for module in (errors, pages, size_classes):
        for name in module.__all__:
            if hasattr(api, name):
                assert getattr(api, name) is getattr(module, name)


def test_pure_form_on_request() -> None:
    program = "import slabmalloc as s; print(s.FORM, s.ZoneAllocator.__module__, s.Layout.from_size_align(8, 8))"
    environment = {**os.environ, "SLABMALLOC_PURE": "1"}
    told = subprocess.run(
        [sys.executable, "-W", "error", "-W", EXPECTED_WARNING, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "pure slabmalloc.reference Layout(size=8, align=8)\n"
