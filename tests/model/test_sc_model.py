# SPDX-License-Identifier: MIT
"""The native size-class allocator against its specification: every slot, list and bitmap word of one class.

Beyond what the zone's model compares, the meta-data in corresponding pages must be the same after each step, word for
word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forms import Memory, RetainingMemory
from lockstep import MODEL_SETTINGS, Pair, Place, Shadow, Side
from slabmalloc.pages import ObjectPage, Page, page_type
from slabmalloc.slab_format import TRAILER, slab_geometry

if TYPE_CHECKING:
    from random import Random

# From 4,000 slots in three levels of bitmap down to a single slot.
KINDS = [
    (8, page_type(32768)),
    (8, ObjectPage),
    (24, ObjectPage),
    (100, ObjectPage),
    (400, ObjectPage),
    (500, ObjectPage),
    (500, page_type(8192)),
    (1000, ObjectPage),
    (2000, ObjectPage),
    (4048, ObjectPage),
    (5000, page_type(65536)),
]


class SizeClassModel(RuleBasedStateMachine):
    """Drives both forms over one size class."""

    @initialize(kind=st.sampled_from(KINDS), has_pager=st.booleans())
    def start(self, kind: tuple[int, type[Page]], has_pager: bool) -> None:
        self.size, self.page_type = kind
        self.capacity = slab_geometry(-(-self.size // 8) * 8, self.page_type.SIZE).capacity

        def make(api: Any, memory: Memory) -> Any:
            return api.SCAllocator(self.size, self.page_type, memory if has_pager else None)

        self.has_pager = has_pager
        self.pair = Pair(RetainingMemory, make)
        self.shadow = Shadow(self.pair)
        for side in self.pair.sides:
            assert side.allocator.objects_per_page == self.capacity

    def layout(self, side: Side) -> Any:
        return side.layout(self.size, 1)

    @rule()
    def allocate(self) -> None:
        place = self.pair.both(lambda side: side.memory.place_of(side.allocator.allocate(self.layout(side))))
        if isinstance(place, tuple):
            self.shadow.allocated([place], self.size, 8)

    @rule(pages=st.floats(0, 3))
    def allocate_many(self, pages: float) -> None:
        self.allocate_some(int(pages * self.capacity))

    def allocate_some(self, n: int) -> None:
        places = self.pair.both(
            lambda side: [side.memory.place_of(each) for each in side.allocator.allocate_many(self.layout(side), n)]
        )
        if isinstance(places, list):
            self.shadow.allocated(places, self.size, 8)

    @rule(size=st.integers(-1, 70_000), align=st.sampled_from([1, 8, 16, 128, 4096]))
    def allocate_oddly(self, size: int, align: int) -> None:
        place = self.pair.both(lambda side: side.memory.place_of(side.allocator.allocate(side.layout(size, align))))
        if isinstance(place, tuple):
            self.shadow.allocated([place], size, align)

    @precondition(lambda self: self.shadow.live)
    @rule(random=st.randoms(use_true_random=False), count=st.integers(1, 60), bias=st.sampled_from([0.2, 0.5, 0.8]))
    def churn(self, random: Random, count: int, bias: float) -> None:
        for _ in range(count):
            if random.random() < bias:
                self.allocate()
            elif self.shadow.live:
                self.deallocate(random.choice(list(self.shadow.live)))
            self.holds()

    def deallocate(self, place: Place) -> None:
        outcome = self.pair.both(lambda side: side.allocator.deallocate(side.address(place), self.layout(side)))
        assert outcome is None
        self.shadow.freed([place])

    @precondition(lambda self: self.shadow.live)
    @rule(random=st.randoms(use_true_random=False), share=st.sampled_from([0.1, 0.5, 0.9, 1.0]), at_once=st.booleans())
    def deallocate_some(self, random: Random, share: float, at_once: bool) -> None:
        places = [place for place in self.shadow.live if random.random() <= share]
        random.shuffle(places)
        if at_once:
            outcome = self.pair.both(
                lambda side: side.allocator.deallocate_many([side.address(at) for at in places], self.layout(side))
            )
            assert outcome is None
            self.shadow.freed(places)
        else:
            for place in places:
                self.deallocate(place)

    @precondition(lambda self: self.capacity < 100)
    @rule(random=st.randoms(use_true_random=False), pages=st.integers(2, 6))
    def scatter(self, random: Random, pages: int) -> None:
        """Pages that are full to various degrees, in an order that only the lists know."""
        for _ in range(pages):
            self.refill()
        self.fill_up(excess=0)
        keep = {page: random.choice([0, 0.2, 0.5, 0.8, 1]) for page, _ in self.shadow.live}
        places = [place for place in self.shadow.live if random.random() >= keep[place[0]]]
        random.shuffle(places)
        for place in places:
            self.deallocate(place)

    @rule(excess=st.integers(0, 1))
    def fill_up(self, excess: int) -> None:
        """Every free slot is taken, which shows how the lists stand; or, with one too many, none is."""
        rows = self.pair.sides[0].allocator.stats().classes
        pages = rows[0].empty_pages + rows[0].partial_pages + rows[0].full_pages if rows else 0
        self.allocate_some(pages * self.capacity - len(self.shadow.live) + excess)

    @rule(page=st.integers(0, 1 << 20), offset=st.integers(0, 1 << 20))
    def deallocate_anywhere(self, page: int, offset: int) -> None:
        pages = self.pair.sides[0].memory.pages
        if pages:
            place = (page % len(pages), offset % self.page_type.SIZE)
            outcome = self.pair.both(lambda side: side.allocator.deallocate(side.address(place), self.layout(side)))
            assert (outcome is None) == (place in self.shadow.live)
            if outcome is None:
                self.shadow.freed([place])

    @rule()
    def refill(self) -> None:
        self.pair.both(lambda side: side.allocator.refill(side.memory.allocate_page(self.page_type)))

    @rule(count=st.integers(0, 3))
    def reclaim(self, count: int) -> None:
        def act(side: Side) -> list[int]:
            left: list[int] = []

            def dealloc(page: Page) -> None:
                left.append(side.number(page))
                side.memory.release_page(page)

            assert side.allocator.try_reclaim_pages(count, dealloc) == len(left)
            return left

        assert len(self.pair.both(act)) <= count

    @precondition(lambda self: self.has_pager)
    @rule()
    def change_places(self) -> None:
        self.pair.exchange()

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "pair"):
            return
        self.pair.check()
        self.shadow.check()
        for mine, other in zip(*(side.memory.pages for side in self.pair.sides), strict=True):
            assert mine.in_use == other.in_use
            assert self.meaning_of(mine) == self.meaning_of(other), "the meta-data is the same"

    def meaning_of(self, page: Page) -> list[bytes]:
        """The meta-data of a page, without the summary of the local bitset: nobody but its owner reads that."""
        geometry = slab_geometry(-(-self.size // 8) * 8, page.SIZE)
        local = page.buffer[-geometry.metadata :]
        remote = local[(geometry.metadata - TRAILER.size) // 2 :]
        return [bytes(local[: -(-geometry.capacity // 64) * 8]), bytes(remote)]

    def teardown(self) -> None:
        if hasattr(self, "pair"):
            self.pair.close()


TestSizeClassModel = SizeClassModel.TestCase
TestSizeClassModel.settings = MODEL_SETTINGS
