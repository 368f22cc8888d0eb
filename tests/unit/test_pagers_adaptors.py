# SPDX-License-Identifier: MIT
"""Pagers around pagers: what each adds, and that none takes anything away, alone or on top of one another."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from slabmalloc.errors import InvalidPage, OutOfMemory
from slabmalloc.pagers import LimitingPager, LoggingPager, MmapPager, Pager, StatisticsPager, TrackingPager
from slabmalloc.pages import LargeObjectPage, ObjectPage, Page, page_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

KIB, MIB = 1 << 10, 1 << 20

ADAPTORS: dict[str, Callable[[Any], Any]] = {
    "limiting": lambda pager: LimitingPager(pager, 64 * MIB),
    "statistics": StatisticsPager,
    "tracking": TrackingPager,
    "logging": LoggingPager,
    "all": lambda pager: StatisticsPager(LimitingPager(TrackingPager(LoggingPager(pager)), 64 * MIB)),
}


class Own:
    """A client's own pager: two methods and nothing else."""

    def __init__(self) -> None:
        self.memory = MmapPager()
        self.answer: Any = None  # returned, or raised, instead of a page
        self.refuses = False

    def allocate_page(self, kind: type[Page] = ObjectPage) -> Page:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer or self.memory.allocate_page(kind)

    def release_page(self, page: Page) -> None:
        if self.refuses:
            raise RuntimeError("not now")
        self.memory.release_page(page)


class Keeping(Own):
    """One that keeps pages with live objects, too."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Page] = []

    def retained_pages(self) -> Iterable[Page]:
        kept, self.kept = self.kept, []
        return kept

    def retain_page(self, page: Page, live: int) -> None:
        assert live > 0
        self.kept.append(page)


@pytest.fixture(params=ADAPTORS)
def wrap(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return ADAPTORS[request.param]


def test_pages_pass_through(wrap: Callable[[Any], Any]) -> None:
    own = Own()
    pager = wrap(own)
    assert issubclass(type(pager), Pager)
    small, large = pager.allocate_page(), pager.allocate_page(LargeObjectPage)
    assert (type(small), type(large)) == (ObjectPage, LargeObjectPage)
    assert pager.pages_in_use == own.memory.pages_in_use == 2
    assert pager.bytes_in_use == own.memory.bytes_in_use == 4 * KIB + 2 * MIB
    pager.release_page(small)
    pager.release_page(large)
    assert pager.pages_in_use == pager.bytes_in_use == own.memory.pages_in_use == 0


@pytest.mark.parametrize("junk", [b"junk", 7, "page"])
def test_junk_from_inside_is_refused_by_name(wrap: Callable[[Any], Any], junk: object) -> None:
    own = Own()
    own.answer = junk
    pager = wrap(own)
    with pytest.raises(InvalidPage, match=r"Own object at .* returned .*, which is no ObjectPage"):
        pager.allocate_page()
    own.answer = MmapPager().allocate_page(LargeObjectPage)
    with pytest.raises(InvalidPage, match=r"returned <LargeObjectPage .*, which is no ObjectPage"):
        pager.allocate_page()
    assert (pager.pages_in_use, pager.bytes_in_use) == (0, 0)


def test_a_page_handed_out_twice_from_inside_is_refused(wrap: Callable[[Any], Any]) -> None:
    own = Own()
    pager = wrap(own)
    own.answer = pager.allocate_page()
    with pytest.raises(InvalidPage, match="a second time, while it is out"):
        pager.allocate_page()
    assert pager.pages_in_use == 1


def test_exceptions_from_inside_pass_and_change_nothing(wrap: Callable[[Any], Any]) -> None:
    own = Own()
    pager = wrap(own)
    own.answer = ZeroDivisionError("inside")
    with pytest.raises(ZeroDivisionError, match="inside"):
        pager.allocate_page()
    own.answer = None
    page = pager.allocate_page()
    own.refuses = True
    with pytest.raises(RuntimeError, match="not now"):
        pager.release_page(page)
    assert (pager.pages_in_use, pager.bytes_in_use) == (1, 4096)
    own.refuses = False
    pager.release_page(page)
    assert (pager.pages_in_use, pager.bytes_in_use) == (0, 0)


def test_only_what_went_through_comes_back_through(wrap: Callable[[Any], Any]) -> None:
    own = Own()
    pager = wrap(own)
    direct = own.allocate_page()
    with pytest.raises(InvalidPage, match="has handed out"):
        pager.release_page(direct)
    page = pager.allocate_page()
    page._take(own)
    with pytest.raises(InvalidPage, match="reclaim it"):
        pager.release_page(page)
    page._give_back()
    pager.release_page(page)
    with pytest.raises(InvalidPage, match="went back already"):
        pager.release_page(page)


def test_closing_closes_what_is_inside(wrap: Callable[[Any], Any]) -> None:
    inner = MmapPager()
    pager = wrap(inner)
    page = pager.allocate_page()
    with pytest.raises(BufferError, match="1 page"):
        pager.close()
    pager.release_page(page)
    with pager:
        pass
    assert inner.closed
    assert pager.closed
    with pytest.raises(ValueError, match="closed"):
        pager.allocate_page()
    wrap(Own()).close()  # nothing to close inside


def test_retained_pages_are_there_if_they_are_inside(wrap: Callable[[Any], Any]) -> None:
    for name in ("retained_pages", "retain_page"):
        assert not hasattr(wrap(Own()), name)
        assert hasattr(wrap(Keeping()), name)
    with pytest.raises(AttributeError, match="has no attribute 'adress_of'"):
        wrap(Keeping()).adress_of(0)


def test_a_zone_comes_back_through_an_adaptor(wrap: Callable[[Any], Any], api: ModuleType) -> None:
    own = Keeping()
    pager = wrap(own)
    layout = api.Layout.from_size_align(64, 8)
    with api.ZoneAllocator(pager) as zone:
        address = zone.allocate(layout)
    assert pager.pages_in_use == 0
    assert len(own.kept) == 1
    with api.ZoneAllocator(pager) as zone:
        assert pager.pages_in_use == 1
        assert zone.stats().live_objects == 1
        zone.deallocate(address, layout)
    assert pager.pages_in_use == own.memory.pages_in_use == 0


def test_a_zone_meets_a_limit_and_lives(wrap: Callable[[Any], Any], api: ModuleType) -> None:
    pager = wrap(LimitingPager(MmapPager(), 8 * KIB))
    layout = api.Layout.from_size_align(256, 8)
    with api.ZoneAllocator(pager) as zone:
        with pytest.raises(OutOfMemory, match="limit of 8 KiB: 8 KiB in use, 4 KiB more asked for"):
            zone.allocate_many(layout, 100)
        zone.audit()
        assert zone.stats().live_objects == 0
        zone.reclaim()
        assert pager.pages_in_use == 0
        zone.allocate(layout)


# ---- limit ----


def test_the_limit_counts_bytes_of_every_type() -> None:
    pager = LimitingPager(MmapPager(), 2 * MIB + 8 * KIB)
    pages = [pager.allocate_page(kind) for kind in (ObjectPage, LargeObjectPage, ObjectPage)]
    with pytest.raises(OutOfMemory, match=r"limit of 2056 KiB: 2056 KiB in use, 64 KiB more asked for"):
        pager.allocate_page(page_type(64 * KIB))
    pager.release_page(pages[0])
    pager.allocate_page()
    assert repr(pager).startswith("<LimitingPager: 3 pages (2056 KiB) in use, limit 2056 KiB, over <MmapPager")


def test_a_limit_may_be_changed_and_not_negative() -> None:
    pager = LimitingPager(MmapPager(), 0)
    with pytest.raises(MemoryError):
        pager.allocate_page()
    pager.max_bytes = 4096
    pager.allocate_page()
    with pytest.raises(ValueError, match="can't be negative"):
        LimitingPager(MmapPager(), -1)


def test_a_request_that_fails_inside_uses_up_no_limit() -> None:
    own = Own()
    own.answer = OSError("inside")
    pager = LimitingPager(own, 4096)
    for _ in range(3):
        with pytest.raises(OSError, match="inside"):
            pager.allocate_page()
    own.answer = None
    pager.allocate_page()


def test_threads_never_exceed_the_limit() -> None:
    pager = LimitingPager(MmapPager(), 16 * KIB)
    highest: list[int] = []

    def work() -> None:
        for _ in range(500):
            try:
                page = pager.allocate_page()
            except OutOfMemory:
                continue
            highest.append(pager.pager.pages_in_use)  # type: ignore[attr-defined]
            pager.release_page(page)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(highest) <= 4
    assert pager.pages_in_use == pager._promised_bytes == 0


# ---- statistics ----


def test_statistics_add_up() -> None:
    pager = StatisticsPager(LimitingPager(MmapPager(), 2 * MIB + 12 * KIB))
    pages = [pager.allocate_page() for _ in range(3)]
    large = pager.allocate_page(LargeObjectPage)
    with pytest.raises(OutOfMemory):
        pager.allocate_page()
    pager.release_page(pages.pop())
    pager.release_page(large)
    pager.allocate_page()
    stats = pager.stats()
    assert (stats.pages_in_use, stats.bytes_in_use) == (3, 12 * KIB)
    assert (stats.peak_pages, stats.peak_bytes) == (4, 2 * MIB + 12 * KIB)
    assert (stats.allocated, stats.released, stats.refused) == (5, 2, 1)
    small = stats.by_type[ObjectPage]
    assert (small.allocated, small.released, small.refused, small.peak_pages, small.pages_in_use) == (4, 1, 1, 3, 3)
    assert stats.by_type[LargeObjectPage].pages_in_use == 0
    assert sum(kind.pages_in_use for kind in stats.by_type.values()) == stats.pages_in_use
    assert "peak 4 (2060 KiB), over <LimitingPager" in repr(pager)
    assert stats == pager.stats()


# ---- tracking ----


def test_the_report_says_who_holds_pages() -> None:
    pager = TrackingPager(MmapPager())

    def loader() -> Page:
        return pager.allocate_page()

    def cache() -> Page:
        return pager.allocate_page(LargeObjectPage)

    held = [loader() for _ in range(3)] + [cache()]
    lines = pager.report().splitlines()
    assert lines[0] == "4 pages (2060 KiB) in use, from 2 places"
    assert lines[1] == "1 page (2 MiB):"
    assert "in cache" in lines[lines.index("3 pages (12 KiB):") - 2]
    assert lines[-2].endswith("in loader")
    assert lines[-1] == "    return pager.allocate_page()"
    assert pager.report(limit=1).splitlines()[-1] == "... and 1 place more"
    stacks = pager.holders()
    assert list(stacks) == held
    assert stacks[held[3]][-1].name == "cache"
    assert stacks[held[3]][-1].line == "return pager.allocate_page(LargeObjectPage)"
    for page in held:
        pager.release_page(page)
    assert pager.report() == "0 pages (0 B) in use, from 0 places"
    assert pager.holders() == {}


def test_the_stack_begins_outside_the_library(api: ModuleType) -> None:
    pager = TrackingPager(MmapPager(), depth=3)
    with api.ZoneAllocator(LimitingPager(pager, MIB)) as zone:
        zone.allocate(api.Layout.from_size_align(8, 8))
        (stack,) = pager.holders().values()
        assert stack[-1].name == "test_the_stack_begins_outside_the_library"
        assert len(stack) == 3


def test_a_depth_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        TrackingPager(MmapPager(), depth=0)


# ---- logging ----


def test_the_log_tells_each_page_and_each_refusal(caplog: pytest.LogCaptureFixture) -> None:
    pager = LoggingPager(LimitingPager(MmapPager(), 4096), logging.getLogger("pages"), logging.INFO)
    with caplog.at_level(logging.DEBUG):
        page = pager.allocate_page()
        with pytest.raises(OutOfMemory):
            pager.allocate_page()
        pager.release_page(page)
    out, refused, back = caplog.records
    assert (out.name, out.levelname) == ("pages", "INFO")
    assert out.message == f"ObjectPage at {page.address:#x} out; 1 in use"
    assert (refused.levelname, refused.message.split(":")[:2]) == ("WARNING", ["no ObjectPage", " OutOfMemory"])
    assert back.message == f"ObjectPage at {page.address:#x} back; 0 in use"


def test_the_log_has_a_name_of_its_own_by_default(caplog: pytest.LogCaptureFixture) -> None:
    pager = LoggingPager(MmapPager())
    with caplog.at_level(logging.DEBUG, "slabmalloc.pagers"):
        pager.allocate_page()
    assert [record.name for record in caplog.records] == ["slabmalloc.pagers"]
