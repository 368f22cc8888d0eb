# SPDX-License-Identifier: MIT
"""Pages of anonymous memory: how they are cut, reused and given back, and what happens when the system refuses."""

from __future__ import annotations

import gc
import itertools
import mmap
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from slabmalloc import reference
from slabmalloc.errors import InvalidPage, OutOfMemory
from slabmalloc.pagers import MmapPager, Pager, anonymous
from slabmalloc.pagers.mapping import Mapping, map_anonymous, native_type
from slabmalloc.pages import LargeObjectPage, ObjectPage, Page, page_type

if TYPE_CHECKING:
    from collections.abc import Callable

KIB, MIB = 1 << 10, 1 << 20
Page64K = page_type(64 * KIB)


@pytest.fixture(params=["native", "stdlib"], autouse=True)
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs on both makers of mappings."""
    if request.param == "stdlib":
        monkeypatch.setenv("SLABMALLOC_PURE", "1")
    elif native_type() is None:
        pytest.skip("the extension is not here")
    return str(request.param)


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the mappings that the pagers make."""
    sizes: list[int] = []

    def counted(size: int, align: int, **options: bool) -> Mapping:
        sizes.append(size)
        return map_anonymous(size, align, **options)

    monkeypatch.setattr(anonymous, "map_anonymous", counted)
    return sizes


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def touch(page: Page) -> None:
    view = page.buffer
    for offset in range(0, page.size, mmap.PAGESIZE):
        view[offset] = 1


def check(pager: MmapPager) -> None:
    """The invariants of chunks.py, and that the sums agree."""
    for pool in pager._pools.values():
        size = pool.page_type.SIZE
        for chunk in pool.chunks.values():
            at_hand = len(chunk.warm) + len(chunk.cold)
            assert chunk.in_use + at_hand == chunk.cut_bytes // size <= chunk.size // size
            assert chunk.listed == (chunk.number in pool.open)
            assert chunk.listed or (at_hand == 0 and chunk.cut_bytes == chunk.size)
            assert chunk.in_use == sum(origin is chunk for origin in pager._held.values())
        assert pool.idle == sum(not chunk.in_use for chunk in pool.chunks.values())
        assert pool.warm_bytes == sum(len(chunk.warm) for chunk in pool.chunks.values()) * size
        assert pool.mapped_bytes == sum(chunk.size for chunk in pool.chunks.values())
    assert pager.bytes_in_use == sum(page.size for page in pager._held)


@pytest.mark.parametrize("kind", [ObjectPage, Page64K, LargeObjectPage, page_type(4 * MIB)])
def test_a_page_is_aligned_zero_and_writable(kind: type[Page]) -> None:
    with MmapPager() as pager:
        pages = [pager.allocate_page(kind) for _ in range(3)]
        for page in pages:
            assert type(page) is kind
            assert page.address % kind.SIZE == 0
            assert not any(page.buffer[:: mmap.PAGESIZE])
            touch(page)
        assert len({page.address for page in pages}) == 3
        assert (pager.pages_in_use, pager.bytes_in_use) == (3, 3 * kind.SIZE)
        for page in pages:
            pager.release_page(page)
        assert (pager.pages_in_use, pager.bytes_in_use) == (0, 0)


def test_it_is_a_pager() -> None:
    assert isinstance(MmapPager(), Pager)


def test_many_pages_cost_few_system_calls(mapped: list[int]) -> None:
    pager = MmapPager()
    pages = [pager.allocate_page() for _ in range(10_000)]
    assert len(mapped) < 25
    assert mapped == sorted(mapped)  # growing
    assert sum(mapped) == pager.bytes_mapped <= 1.3 * pager.bytes_in_use
    assert len({page.address for page in pages}) == 10_000


def test_a_released_page_goes_out_again_first_as_the_same_object() -> None:
    pager = MmapPager()
    first, second = pager.allocate_page(), pager.allocate_page()
    second.buffer[:4] = b"warm"
    pager.release_page(second)
    again = pager.allocate_page()
    assert again is second
    assert bytes(again.buffer[:4]) == b"warm"
    assert first is not second


def test_pages_come_from_the_oldest_chunk_so_that_younger_ones_leave() -> None:
    pager = MmapPager(chunk_bytes=16 * KIB)
    old = [pager.allocate_page() for _ in range(4)]
    young = [pager.allocate_page() for _ in range(4)]
    assert pager.bytes_mapped == 32 * KIB
    pager.release_page(young[0])
    pager.release_page(old[2])
    assert pager.allocate_page() is old[2]
    assert pager.allocate_page() is young[0]
    check(pager)


def test_free_chunks_go_back_but_one(mapped: list[int]) -> None:
    pager = MmapPager(chunk_bytes=16 * KIB)
    pages = [pager.allocate_page() for _ in range(12)]
    for page in pages:
        pager.release_page(page)
    check(pager)
    assert pager.bytes_mapped == 16 * KIB
    made = len(mapped)
    for _ in range(50):  # at the edge: no system call at all
        pager.release_page(pager.allocate_page())
    assert len(mapped) == made
    del page, pages
    pager.close()
    assert pager.bytes_mapped == 0


def test_resident_memory_falls_when_everything_is_released() -> None:
    pager = MmapPager()
    before = resident_bytes()
    pages = [pager.allocate_page(kind) for kind in [ObjectPage] * 4096 + [LargeObjectPage] * 16]
    for page in pages:
        touch(page)
    assert resident_bytes() - before > 40 * MIB
    for page in pages:
        pager.release_page(page)
    assert resident_bytes() - before < 16 * MIB  # though `pages` still keeps every Page, and so its addresses
    pager.purge()
    assert resident_bytes() - before < 8 * MIB


def test_resident_memory_falls_when_survivors_are_scattered() -> None:
    pager = MmapPager(keep_bytes=1 * MIB)
    pages = [pager.allocate_page() for _ in range(8192)]
    for page in pages:
        touch(page)
    before = resident_bytes()
    for i, page in enumerate(pages):
        if i % 16:
            pager.release_page(page)
    assert before - resident_bytes() > 24 * MIB  # of 30 MiB released
    assert all(page.buffer[0] == 1 for page in pages[::16])
    check(pager)


def test_purge_gives_back_what_was_kept() -> None:
    pager = MmapPager(keep_bytes=64 * MIB)
    keep, *others = [pager.allocate_page() for _ in range(100)]
    touch(keep)
    for page in others:
        touch(page)
        pager.release_page(page)
    assert pager.purge() == 99 * 4096
    assert pager.purge() == 0
    assert keep.buffer[0] == 1
    assert pager.allocate_page().buffer[0] == 0  # purged memory is zero
    check(pager)


def test_purge_takes_neighbours_in_one_system_call(monkeypatch: pytest.MonkeyPatch) -> None:
    pager = MmapPager(keep_bytes=64 * MIB)
    pages = [pager.allocate_page() for _ in range(10)]
    chunk = next(iter(pager._held.values()))
    purged: list[tuple[int, int]] = []
    monkeypatch.setattr(type(chunk.mapping), "purge", lambda _, offset, size: purged.append((offset, size)))
    for i in (7, 1, 3, 2, 8):
        pager.release_page(pages[i])
    assert pager.purge() == 5 * 4096
    assert purged == [(4096, 3 * 4096), (7 * 4096, 2 * 4096)]


# ---- refusals ----


def test_release_refuses_what_is_not_out() -> None:
    pager, other = MmapPager(), MmapPager()
    page = pager.allocate_page()
    with pytest.raises(InvalidPage, match=r"is not a page that <MmapPager: 0 pages .* has handed out"):
        other.release_page(page)
    with pytest.raises(InvalidPage, match="not a page"):
        pager.release_page(ObjectPage(page.buffer))  # the same memory, but not the page
    with pytest.raises(InvalidPage, match="not a page"):
        pager.release_page(4096)  # type: ignore[arg-type]
    pager.release_page(page)
    with pytest.raises(InvalidPage, match="or it went back already"):
        pager.release_page(page)
    check(pager)


def test_release_refuses_a_page_in_use() -> None:
    pager = MmapPager()
    page = pager.allocate_page()
    page._take(pager)
    with pytest.raises(InvalidPage, match=r"in use by MmapPager.*reclaim it"):
        pager.release_page(page)
    assert pager.pages_in_use == 1
    page._give_back()
    pager.release_page(page)


@pytest.mark.parametrize("junk", [4096, Page, int, None, "ObjectPage"])
def test_only_page_types_can_be_asked_for(junk: object) -> None:
    with pytest.raises(TypeError, match="a page type such as ObjectPage"):
        MmapPager().allocate_page(junk)  # type: ignore[arg-type]


def test_close_is_refused_while_pages_are_out() -> None:
    pager = MmapPager()
    page = pager.allocate_page()
    with pytest.raises(BufferError, match=r"MmapPager can't close: 1 page \(4 KiB\) in use"):
        pager.close()
    pager.release_page(page)
    pager.close()
    pager.close()
    assert pager.closed
    with pytest.raises(ValueError, match="this MmapPager is closed"):
        pager.allocate_page()
    assert repr(pager) == "<MmapPager: closed>"


def test_with_reports_pages_that_are_left_but_hides_no_error() -> None:
    with pytest.raises(BufferError), MmapPager() as pager:
        pager.allocate_page()
    with pytest.raises(ZeroDivisionError), MmapPager() as pager:
        pager.allocate_page().buffer[0] = 1 // 0


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        MmapPager(chunk_bytes=0)
    with pytest.raises(ValueError, match="not negative"):
        MmapPager(keep_bytes=-1)


def test_repr_tells_use_and_mapping() -> None:
    pager = MmapPager()
    page = pager.allocate_page()
    assert repr(pager) == "<MmapPager: 1 page (4 KiB) in use, 1 MiB mapped in 1 chunk>"
    pager.release_page(page)


def test_a_page_outlives_its_pager() -> None:
    pager = MmapPager()
    page = pager.allocate_page()
    page.buffer[:5] = b"hello"
    del pager
    gc.collect()
    assert bytes(page.buffer[:5]) == b"hello"


# ---- faults ----


def failing_map(limit: int) -> Callable[..., Mapping]:
    """Refuses mappings above `limit` bytes, as a system does that is nearly out of memory."""

    def maker(size: int, align: int, **options: bool) -> Mapping:
        if size > limit:
            raise OSError(12, "Cannot allocate memory")
        return map_anonymous(size, align, **options)

    return maker


def test_a_smaller_chunk_is_tried_before_giving_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anonymous, "map_anonymous", failing_map(64 * KIB))
    pager = MmapPager()
    pages = [pager.allocate_page() for _ in range(100)]
    assert pager.bytes_mapped == 7 * 64 * KIB
    with pytest.raises(OutOfMemory, match=r"gives MmapPager no more than 448 KiB: 2 MiB for a LargeObjectPage refused"):
        pager.allocate_page(LargeObjectPage)
    check(pager)
    monkeypatch.setattr(anonymous, "map_anonymous", failing_map(0))
    while pager.pages_in_use < 112:
        pages.append(pager.allocate_page())
    with pytest.raises(MemoryError):
        pager.allocate_page()
    check(pager)
    for page in pages:
        pager.release_page(page)
    assert pager.allocate_page() in pages


def test_a_system_that_refuses_to_purge_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    pager = MmapPager(chunk_bytes=16 * KIB, keep_bytes=0)
    pages = [pager.allocate_page() for _ in range(12)]
    chunk = next(iter(pager._held.values()))
    monkeypatch.setattr(type(chunk.mapping), "purge", refuse)
    for page in pages:
        pager.release_page(page)
        check(pager)
    assert pager.purge() == 0
    pager.close()


def test_a_page_that_cannot_be_made_leaves_the_pager_whole() -> None:
    class Fragile(Page64K):  # type: ignore[valid-type, misc]
        fails = True

        def __init__(self, buffer: memoryview, offset: int) -> None:
            if Fragile.fails:
                raise MemoryError
            super().__init__(buffer, offset)

    pager = MmapPager()
    with pytest.raises(MemoryError):
        pager.allocate_page(Fragile)
    assert pager.pages_in_use == 0
    Fragile.fails = False
    pager.release_page(pager.allocate_page(Fragile))
    pager.close()
    assert pager.bytes_mapped == 0


class Bomb:
    """An object in a cycle whose finaliser uses the pager, wherever the collector meets it."""

    def __init__(self, pager: MmapPager, held: list[Page]) -> None:
        self.pager, self.held, self.itself = pager, held, self

    def __del__(self) -> None:
        if self.held:
            self.pager.release_page(self.held.pop())
        kept = self.pager.allocate_page()
        self.pager.release_page(kept)


def test_finalisers_may_call_the_pager_at_any_moment() -> None:
    pager = MmapPager(chunk_bytes=16 * KIB, keep_bytes=8 * KIB)
    thresholds = gc.get_threshold()
    outstanding: list[Page] = []
    doomed: list[Page] = []
    gc.set_threshold(1)
    try:
        for i in range(1500):
            doomed.append(pager.allocate_page())
            Bomb(pager, doomed)
            outstanding.append(pager.allocate_page())
            if i % 3:
                pager.release_page(outstanding.pop(i % len(outstanding)))
            if i % 100 == 0:
                pager.purge()
                check(pager)
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    check(pager)
    assert len({page.address for page in pager._held}) == pager.pages_in_use == len(outstanding) + len(doomed)


def test_threads_never_get_the_same_page() -> None:
    pager = MmapPager(chunk_bytes=64 * KIB, keep_bytes=64 * KIB)
    faults: list[str] = []

    def work(number: int) -> None:
        mine: list[Page] = []
        for i in range(2000):
            if len(mine) < 20 and i % 3:
                page = pager.allocate_page()
                page.buffer[0] = number
                mine.append(page)
            elif mine:
                page = mine.pop(i % len(mine))
                if page.buffer[0] != number:
                    faults.append(f"{page!r} of thread {number} holds {page.buffer[0]}")
                pager.release_page(page)
        for page in mine:
            pager.release_page(page)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert pager.pages_in_use == 0
    check(pager)


def test_a_zone_lives_on_it_and_gives_all_back() -> None:
    with MmapPager() as pager:
        with reference.ZoneAllocator(pager) as zone:
            small, large = reference.Layout.from_size_align(64, 8), reference.Layout.from_size_align(4096, 16)
            addresses = [zone.allocate(layout) for layout in [small] * 200 + [large] * 3]
            assert pager.pages_in_use == 5
            assert zone.stats().mapped_bytes == pager.bytes_in_use
            for address in addresses[:200]:
                zone.deallocate(address, small)
            zone.reclaim()
            assert pager.pages_in_use == 1
        assert pager.pages_in_use == 0


# ---- the model ----


class MmapPagerMachine(RuleBasedStateMachine):
    """Any sequence of calls: pages never overlap, keep their contents while out, and every count holds."""

    def __init__(self) -> None:
        super().__init__()
        self.pager = MmapPager()
        self.out: dict[Page, int] = {}
        self.stamp = 0

    @initialize(chunk=st.sampled_from([1, 16 * KIB, 128 * KIB]), keep=st.sampled_from([0, 16 * KIB, 4 * MIB]))
    def start(self, chunk: int, keep: int) -> None:
        self.pager = MmapPager(chunk_bytes=chunk, keep_bytes=keep)

    @rule(kind=st.sampled_from([ObjectPage, page_type(8192), Page64K]), count=st.integers(1, 12))
    def allocate(self, kind: type[Page], count: int) -> None:
        for _ in range(count):
            page = self.pager.allocate_page(kind)
            assert page not in self.out
            self.stamp += 1
            page.buffer[:4] = page.buffer[-4:] = self.stamp.to_bytes(4, "little")
            self.out[page] = self.stamp

    @precondition(lambda self: self.out)
    @rule(data=st.data(), count=st.integers(1, 12))
    def release(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.out))):
            page = list(self.out)[data.draw(st.integers(0, len(self.out) - 1))]
            assert bytes(page.buffer[:4]) == bytes(page.buffer[-4:]) == self.out.pop(page).to_bytes(4, "little")
            self.pager.release_page(page)
            kept = self.pager._pools[type(page)].warm_bytes
            assert kept <= max(self.pager._keep_bytes, self.pager.bytes_in_use >> 3)

    @rule()
    def purge(self) -> None:
        self.pager.purge()
        assert self.pager.purge() == 0

    @invariant()
    def holds(self) -> None:
        check(self.pager)
        spans = sorted((page.address, page.size) for page in self.out)
        assert all(a + size <= b for (a, size), (b, _) in itertools.pairwise(spans))
        assert self.pager.pages_in_use == len(self.out)

    def teardown(self) -> None:
        for page in self.out:
            self.pager.release_page(page)
        self.out.clear()
        self.pager.close()
        assert self.pager.bytes_mapped == 0


def test_model() -> None:
    run_state_machine_as_test(
        MmapPagerMachine, settings=settings(max_examples=30, stateful_step_count=30, deadline=None, derandomize=True)
    )
