# SPDX-License-Identifier: MIT
"""The native zone against its specification, step by step, over every operation and misuse that a client has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from forms import Memory, RetainingMemory, new_page
from lockstep import MODEL_SETTINGS, Pair, Place, Shadow, Side
from slabmalloc.errors import DoubleFree, InvalidFree, OutOfMemory
from slabmalloc.pages import ObjectPage, Page, page_type
from slabmalloc.size_classes import SizeClasses

if TYPE_CHECKING:
    from random import Random

TABLES = {
    "default": SizeClasses.default(),
    "powers of two": SizeClasses.powers_of_two(),
    # Few objects per page, down to one, so that pages fill up and drain; 4048 and 65488 are the most that fit.
    "few per page": SizeClasses.from_sizes(
        [8, 48, 400, 1000, 2016, 4048, 5000, 16000, 32000, 65488], large_page=page_type(65536), max_base_size=4048
    ),
    "one kind of page": SizeClasses.from_sizes(
        [16, 720, 8000], base_page=page_type(16384), large_page=page_type(16384), max_base_size=720
    ),
    "larger base pages": SizeClasses.from_sizes(
        [24, 640, 2000], base_page=page_type(65536), large_page=ObjectPage, max_base_size=640
    ),
}

COMMON_SIZES = [1, 8, 20, 48, 400, 720, 1000, 2000, 4048, 8000, 65488]
odd_sizes = st.one_of(st.integers(-1, 5000), st.integers(5000, 140_000), st.integers())
alignments = st.sampled_from([1, 2, 4, 8, 16, 64, 1024, 4096, 65536, 1 << 20, 0, 3, -8])
positions = st.integers(0, 1 << 30)
MISTAKES = ("interior", "metadata", "foreign", "wrong class", "never used", "far away", "negative")


class ZoneModel(RuleBasedStateMachine):
    """Drives both forms; places and page numbers stand for addresses and pages.

    A run keeps to a few sizes, so that pages of one class fill up and drain, and strays from them at times.
    """

    sizes: Bundle[int] = Bundle("sizes")

    @initialize(
        target=sizes,
        table=st.sampled_from(sorted(TABLES)),
        pager=st.integers(0, 3),
        chosen=st.lists(st.sampled_from(COMMON_SIZES), min_size=1, max_size=3),
    )
    def start(self, table: str, pager: int, chosen: list[int]) -> Any:
        self.classes = TABLES[table]
        self.has_pager = has_pager = pager > 0

        def make(api: Any, memory: Memory) -> Any:
            return api.ZoneAllocator(memory if has_pager else None, size_classes=self.classes)

        self.pair = Pair(RetainingMemory, make)
        self.shadow = Shadow(self.pair)
        self.freed: tuple[Place, int] | None = None
        fitting = [size for size in chosen if size <= self.classes.max_size]
        return multiple(*fitting) if fitting else self.classes.max_size

    # ---- objects ----

    @rule(size=sizes)
    def allocate(self, size: int) -> None:
        self.allocate_oddly(size, 1)

    @rule(size=odd_sizes, align=alignments)
    def allocate_oddly(self, size: int, align: int) -> None:
        place = self.pair.both(lambda side: side.memory.place_of(side.allocator.allocate(side.layout(size, align))))
        if isinstance(place, tuple):
            self.shadow.allocated([place], size, align)

    @rule(size=sizes, n=st.one_of(st.integers(-1, 5), st.integers(0, 200)), helps_out=st.booleans())
    def allocate_many(self, size: int, n: int, helps_out: bool) -> None:
        n = min(n, 100_000 // size)

        def act(side: Side) -> list[Place]:
            layout = side.layout(size, 1)
            while True:
                try:
                    return [side.memory.place_of(each) for each in side.allocator.allocate_many(layout, n)]
                except OutOfMemory:
                    if not helps_out:
                        raise
                self.refill_by_hand(side, size)

        places = self.pair.both(act)
        if isinstance(places, list):
            assert len(places) == n
            self.shadow.allocated(places, size, 1)

    @precondition(lambda self: self.shadow.live)
    @rule(position=positions, whole_class=st.booleans())
    def deallocate(self, position: int, whole_class: bool) -> None:
        place, (size, align, _) = self.pick(position)
        if whole_class:  # any layout of the same class will do
            size, align = self.classes.sizes[self.classes.index_of(size, align)], 1
        assert (
            self.pair.both(lambda side: side.allocator.deallocate(side.address(place), side.layout(size, align)))
            is None
        )
        self.shadow.freed([place])
        self.freed = place, size

    @precondition(lambda self: self.shadow.live)
    @rule(random=st.randoms(use_true_random=False), count=st.integers(1, 30), bias=st.sampled_from([0.3, 0.5, 0.7]))
    def churn(self, random: Random, count: int, bias: float) -> None:
        """Objects come and go one by one: what most programs do most of the time."""
        for _ in range(count):
            _place, (size, align, _) = self.pick(random.getrandbits(30))
            if random.random() < bias:
                self.allocate_oddly(size, align)
            else:
                self.deallocate(random.getrandbits(30), False)
            self.pair.check()
            if not self.shadow.live:
                return

    @precondition(lambda self: self.shadow.live)
    @rule(position=positions, stride=st.integers(1, 7), is_reversed=st.booleans(), spoiled=st.booleans())
    def deallocate_many(self, position: int, stride: int, is_reversed: bool, spoiled: bool) -> None:
        _, (size, align, _) = self.pick(position)
        index = self.classes.index_of(size, align)
        places = [at for at, (s, a, _) in self.shadow.live.items() if self.classes.index_of(s, a) == index][::stride]
        if is_reversed:
            places.reverse()
        given = [*places, places[position % len(places)]] if spoiled else places
        outcome = self.pair.both(
            lambda side: side.allocator.deallocate_many([side.address(at) for at in given], side.layout(size, align))
        )
        if spoiled:
            assert outcome is DoubleFree
        else:
            assert outcome is None
            self.shadow.freed(places)

    @precondition(lambda self: self.shadow.live)
    @rule(position=positions, mistake=st.sampled_from(MISTAKES), by=st.integers(1, 100))
    def deallocate_wrongly(self, position: int, mistake: str, by: int) -> None:
        place, (size, align, _) = self.pick(position)
        page_bytes = self.pair.sides[0].memory.pages[place[0]].SIZE
        index = self.classes.index_of(size, align)
        slot_bytes = self.classes.sizes[index]
        unused = -by % (page_bytes // slot_bytes) * slot_bytes  # on this page, whichever slot it is
        elsewhere = new_page()

        def wrong_address(side: Side) -> int:
            start = side.memory.pages[place[0]].address
            return {
                "interior": side.address(place) + 1 + by % (slot_bytes - 1),
                "metadata": start + page_bytes - by,
                "foreign": elsewhere.address + by,
                "wrong class": side.address(place),
                "never used": start + unused,
                "far away": by * 4096,
                "negative": -by,
            }[mistake]

        if mistake == "wrong class":
            size, align = size % self.classes.max_size + 1, 1
            if self.classes.index_of(size, align) == index:
                return
        if mistake == "never used" and (place[0], unused) in self.shadow.live:
            return
        outcome = self.pair.both(lambda side: side.allocator.deallocate(wrong_address(side), side.layout(size, align)))
        assert outcome in (InvalidFree, DoubleFree)

    @precondition(lambda self: self.freed is not None and self.freed[0] not in self.shadow.live)
    @rule()
    def deallocate_twice(self) -> None:
        assert self.freed is not None
        place, size = self.freed
        outcome = self.pair.both(lambda side: side.allocator.deallocate(side.address(place), side.layout(size, 1)))
        assert isinstance(outcome, type), "the page may have gone, or have come back for another class"

    # ---- pages ----

    @rule(size=sizes)
    def refill(self, size: int) -> None:
        assert self.pair.both(lambda side: self.refill_by_hand(side, size)) is None

    @rule(size=sizes, is_large=st.booleans(), mistake=st.sampled_from(["wrong kind", "other type", "in use", "none"]))
    def refill_wrongly(self, size: int, is_large: bool, mistake: str) -> None:
        def act(side: Side) -> None:
            refill = side.allocator.refill_large if is_large else side.allocator.refill
            page: Any = None
            if mistake == "wrong kind":
                page = new_page(self.classes.base_page if is_large else self.classes.large_page)
            elif mistake == "other type":
                page = new_page(page_type(8192))
            elif mistake == "in use":
                page = next((each for each in side.memory.pages if each.in_use), None)
            try:
                refill(side.layout(size, 1), page)
            finally:
                assert page is None or page.in_use == (mistake == "in use")

        if mistake != "wrong kind" or self.classes.base_page is not self.classes.large_page:
            assert isinstance(self.pair.both(act), type)

    @rule(count=st.integers(-1, 5), is_large=st.booleans())
    def reclaim_some(self, count: int, is_large: bool) -> None:
        def act(side: Side) -> tuple[int, list[int]]:
            left: list[int] = []

            def dealloc(page: Page) -> None:
                assert not page.in_use
                left.append(side.number(page))
                side.memory.release_page(page)

            zone = side.allocator
            reclaim = zone.try_reclaim_large_pages if is_large else zone.try_reclaim_base_pages
            return reclaim(count, dealloc), left

        self.pair.both(act)

    @rule()
    def reclaim(self) -> None:
        outcome = self.pair.both(lambda side: side.allocator.reclaim())
        if self.has_pager:
            assert self.pair.sides[0].allocator.stats().empty_pages == 0
        else:
            assert outcome is ValueError

    @precondition(lambda self: self.has_pager)
    @rule()
    def change_places(self) -> None:
        self.pair.exchange()

    # ---- the pager's moods ----

    @rule(more=st.sampled_from([0, 1, 2, 1000]))
    def limit_memory(self, more: int) -> None:
        for side in self.pair.sides:
            side.memory.limit = side.memory.pages_in_use + more

    @rule(trouble=st.sampled_from(["raises", "junk", "other page", "used page"]))
    def trouble_ahead(self, trouble: str) -> None:
        for side in self.pair.sides:
            side.memory.trouble = {
                "raises": ConnectionError("trouble"),
                "junk": "junk",
                "other page": new_page(page_type(8192)),
                "used page": next((page for page in side.memory.pages if page.in_use), "junk"),
            }[trouble]

    # ---- what always holds ----

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "pair"):
            self.pair.check()
            self.shadow.check()

    def teardown(self) -> None:
        if hasattr(self, "pair"):
            self.pair.close()
            for side in self.pair.sides:
                assert not any(page.in_use for page in side.memory.pages)

    # ---- helpers ----

    def refill_by_hand(self, side: Side, size: int) -> None:
        layout = side.layout(size, 1)
        index = self.classes.index_of(size, 1)
        limit, side.memory.limit, side.memory.trouble = side.memory.limit, 1 << 30, None
        page = side.memory.allocate_page(self.classes.page_of(index))
        side.memory.limit = limit
        is_large = self.classes.sizes[index] > self.classes.max_base_size
        (side.allocator.refill_large if is_large else side.allocator.refill)(layout, page)

    def pick(self, position: int) -> tuple[Place, tuple[int, int, bytes]]:
        places = list(self.shadow.live)
        place = places[position % len(places)]
        return place, self.shadow.live[place]


TestZoneModel = ZoneModel.TestCase
TestZoneModel.settings = MODEL_SETTINGS
