# SPDX-License-Identifier: MIT
"""Pages inside a client's buffer, and the buddy system below: what can be had, and that nothing is lost or shared."""

from __future__ import annotations

import ctypes
import itertools
import mmap
from array import array
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slabmalloc.errors import InvalidPage, OutOfMemory
from slabmalloc.pagers import BufferPager
from slabmalloc.pagers.buddy import BuddyRange
from slabmalloc.pages import LargeObjectPage, ObjectPage, Page, address_of, page_type

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

KIB, MIB = 1 << 10, 1 << 20
UNIT = 4096


def aligned(size: int, align: int = 64 * KIB) -> memoryview:
    """`size` bytes at a multiple of `align`, and the unit before and behind that nobody may write."""
    memory = mmap.mmap(-1, size + 2 * align)
    start = -address_of(memory) % align
    return memoryview(memory)[start : start + size]


def test_every_aligned_page_of_the_buffer_can_be_had() -> None:
    memory = aligned(10 * UNIT)[100:-100]
    pager = BufferPager(memory)
    assert (pager.bytes_total, pager.bytes_free) == (8 * UNIT, 8 * UNIT)
    pages = [pager.allocate_page() for _ in range(8)]
    assert sorted(page.address for page in pages) == [address_of(memory) - 100 + UNIT * n for n in range(1, 9)]
    with pytest.raises(
        OutOfMemory, match="no block of 4 KiB for an ObjectPage: 0 B of 32 KiB free, the largest block 0 B"
    ):
        pager.allocate_page()
    pages[0].buffer[:5] = b"hello"
    assert bytes(memory[pages[0].address - address_of(memory) :][:5]) == b"hello"


def test_page_types_mix_and_join_again() -> None:
    pager = BufferPager(aligned(4 * MIB, 2 * MIB))
    small = [pager.allocate_page() for _ in range(3)]
    large = pager.allocate_page(LargeObjectPage)
    assert large.address - small[0].address == 2 * MIB
    with pytest.raises(
        OutOfMemory, match=r"no block of 2 MiB for a LargeObjectPage: 2036 KiB of 4 MiB free, the largest block 1 MiB"
    ):
        pager.allocate_page(LargeObjectPage)
    middle = pager.allocate_page(page_type(64 * KIB))
    for page in (small[1], middle, small[0], small[2]):
        pager.release_page(page)
    second = pager.allocate_page(LargeObjectPage)  # whole again, whatever was cut from it
    assert second.address == small[0].address
    assert pager.bytes_free == 0


def test_large_blocks_stay_whole_as_long_as_they_can() -> None:
    pager = BufferPager(aligned(128 * KIB))
    first = pager.allocate_page(page_type(32 * KIB))
    second = pager.allocate_page()
    assert second.address == first.address + 32 * KIB  # from the block of 32 KiB, not from that of 64 KiB
    assert pager.allocate_page(page_type(64 * KIB)).address == first.address + 64 * KIB


@pytest.mark.parametrize("kind", ["bytearray", "mmap", "array", "ctypes", "shared_memory", "numpy"])
def test_any_writable_buffer_serves(kind: str) -> None:
    size = 4 * UNIT
    shared = SharedMemory(create=True, size=size) if kind == "shared_memory" else None
    try:
        if kind == "numpy":
            numpy = pytest.importorskip("numpy")
            buffer = numpy.zeros((2, size // 16), dtype="float64")
        else:
            makers: dict[str, Callable[[], Any]] = {
                "bytearray": lambda: bytearray(size),
                "mmap": lambda: mmap.mmap(-1, size),
                "array": lambda: array("d", bytes(size)),
                "ctypes": lambda: (ctypes.c_double * (size // 8))(),
                "shared_memory": lambda: shared.buf if shared else None,
            }
            buffer = makers[kind]()
        with BufferPager(buffer) as pager:
            assert pager.bytes_total in (3 * UNIT, 4 * UNIT)
            page = pager.allocate_page()
            page.buffer[:3] = b"abc"
            assert bytes(memoryview(buffer).cast("B")[page.address - address_of(buffer) :][:3]) == b"abc"
            pager.release_page(page)
            del page
        del pager
    finally:
        if shared is not None:
            shared.close()
            shared.unlink()


def test_the_buffer_is_exported_until_close() -> None:
    buffer = bytearray(8 * UNIT)
    pager = BufferPager(buffer)
    with pytest.raises(BufferError):
        buffer.append(0)
    pager.close()
    buffer.append(0)


@pytest.mark.parametrize(
    ("buffer", "fault"),
    [
        (bytes(UNIT * 4), "this bytes is read-only"),
        (memoryview(bytearray(UNIT * 4))[::2], "this memoryview is strided"),
        (bytearray(0), "no aligned page of 4 KiB lies in this bytearray of 0 bytes at 0x0; pass at least 4096 bytes"),
        (
            bytearray(4095),
            "no aligned page of 4 KiB lies in this bytearray of 4095 bytes at 0x[0-9a-f]+; pass at least",
        ),
    ],
)
def test_a_buffer_that_can_not_serve_is_refused(buffer: bytearray, fault: str) -> None:
    with pytest.raises(InvalidPage, match=fault):
        BufferPager(buffer)


def test_the_remedy_in_the_refusal_is_right() -> None:
    memory = aligned(4 * UNIT)[UNIT - 8 :]
    with pytest.raises(InvalidPage, match=r"pass at least 4104 bytes there"):
        BufferPager(memory[:4103])
    assert BufferPager(memory[:4104]).bytes_total == UNIT


def test_release_and_close_refuse_as_all_pagers_do() -> None:
    pager = BufferPager(bytearray(4 * UNIT))
    page = pager.allocate_page()
    with pytest.raises(BufferError, match="1 page"):
        pager.close()
    with pytest.raises(InvalidPage, match="has handed out"):
        BufferPager(bytearray(4 * UNIT)).release_page(page)
    with pytest.raises(TypeError, match="page type"):
        pager.allocate_page(4096)  # type: ignore[arg-type]
    pager.release_page(page)
    with pytest.raises(InvalidPage, match="went back already"):
        pager.release_page(page)
    assert "of 12 KiB free at 0x" in repr(pager) or "of 16 KiB free at 0x" in repr(pager)
    pager.close()
    with pytest.raises(ValueError, match="closed"):
        pager.allocate_page()


def test_a_page_that_cannot_be_made_costs_nothing() -> None:
    class Broken(ObjectPage):
        def __init__(self, *_: object) -> None:
            raise MemoryError

    pager = BufferPager(bytearray(4 * UNIT))
    before = pager.bytes_free
    with pytest.raises(MemoryError):
        pager.allocate_page(Broken)
    assert (pager.bytes_free, pager.pages_in_use) == (before, 0)


def test_a_zone_lives_in_a_buffer(api: ModuleType) -> None:
    with BufferPager(aligned(6 * MIB, 2 * MIB)) as pager:
        with api.ZoneAllocator(pager) as zone:
            small, large = api.Layout.from_size_align(48, 8), api.Layout.from_size_align(100_000, 16)
            addresses = [zone.allocate(small) for _ in range(500)]
            zone.allocate(large)
            with pytest.raises(OutOfMemory, match="no block"):
                zone.allocate_many(large, 100)
            for address in addresses:
                zone.deallocate(address, small)
            zone.reclaim()
            zone.audit()
            assert pager.pages_in_use == 1
        assert pager.bytes_free == 6 * MIB


# ---- the buddy system against plain search ----


class Bits:
    """The same range as a set of free units, searched by brute force."""

    def __init__(self, start: int, end: int) -> None:
        self.free = set(range(start, end))

    def blocks(self, size: int) -> list[int]:
        positions = range(0, max(self.free, default=-1) + 1, size)
        return [p for p in positions if all(unit in self.free for unit in range(p, p + size))]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    start=st.integers(0, 70),
    length=st.integers(0, 130),
    growth=st.integers(0, 64),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 1000)), max_size=120),
)
def test_a_block_can_be_had_exactly_if_it_is_there(
    start: int, length: int, growth: int, steps: list[tuple[bool, int, int]]
) -> None:
    buddy = BuddyRange(unit=1, largest=64)
    model = Bits(start, start + length)
    buddy.add(start, start + length)
    taken: list[tuple[int, int]] = []
    for number, (takes, order, choice) in enumerate(steps):
        if number == len(steps) // 2:
            buddy.add(start + length, start + length + growth)
            model.free |= set(range(start + length, start + length + growth))
        size = 1 << order
        if takes:
            position = buddy.take(size)
            possible = model.blocks(size)
            assert (position is None) == (not possible)
            if position is not None:
                assert position in possible
                model.free -= set(range(position, position + size))
                taken.append((position, size))
        elif taken:
            position, size = taken.pop(choice % len(taken))
            buddy.give(position, size)
            model.free |= set(range(position, position + size))
        assert buddy.free_bytes == len(model.free)
        assert buddy.largest_free() == max((s for s in (1, 2, 4, 8, 16, 32, 64) if model.blocks(s)), default=0)
    for position, size in taken:
        buddy.give(position, size)
    assert sum(len(heap) for heap in buddy._heaps.values()) <= 4 * (len(steps) + 14)


def test_stale_entries_do_not_pile_up() -> None:
    buddy = BuddyRange(unit=1, largest=64)
    buddy.add(0, 64)
    for i in range(5000):
        sizes = [1 << (i * 7 + k) % 5 for k in range(3)]
        blocks = [(buddy.take(size), size) for size in sizes]
        for position, size in blocks[:: 1 if i % 2 else -1]:
            assert position is not None
            buddy.give(position, size)
    assert buddy.largest_free() == 64
    assert sum(len(heap) for heap in buddy._heaps.values()) < 100


def test_kinds_of_page_do_not_matter_to_the_range() -> None:
    memory = aligned(64 * KIB)
    pager = BufferPager(memory)
    kinds: list[type[Page]] = [page_type(UNIT << n) for n in (0, 3, 1, 0, 2)]
    pages = [pager.allocate_page(kind) for kind in kinds]
    spans = sorted((page.address, page.address + page.size) for page in pages)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert pager.bytes_in_use + pager.bytes_free == 64 * KIB
