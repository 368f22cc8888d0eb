# SPDX-License-Identifier: MIT
"""Pagers around pagers: a limit, statistics, who holds what, a log (floor 5).

Each wraps any pager, a client's own class with the two methods among them, and so they compose. `Adaptor` has what
they share: pages go through once in each direction, and no lock is held while the inner pager works, since it may run
code of others. `retained_pages` and `retain_page` are there exactly if the inner pager has them.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from ..errors import InvalidPage, OutOfMemory
from ..pages import ObjectPage, Page, readable_bytes
from .protocol import HoldingPager, Origin, Pager, RetainingPager, check_page_type

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping
    from traceback import StackSummary

__all__ = ["LimitingPager", "LoggingPager", "PageTypeStats", "PagerStats", "StatisticsPager", "TrackingPager"]


class Adaptor(HoldingPager[Origin]):
    """Hands pages through. A subclass says what it remembers of each, and what else it does before and after.

    Closing it closes the inner pager, if that can be closed.
    """

    def __init__(self, pager: Pager) -> None:
        super().__init__()
        self.pager = pager

    def allocate_page(self, page_type: type[Page] = ObjectPage) -> Page:
        """A page of the inner pager, with its errors; InvalidPage if it returns no such page, or one that is out."""
        self._check_open()
        page = self.pager.allocate_page(check_page_type(page_type))
        if not isinstance(page, page_type):
            raise InvalidPage(f"{self.pager!r} returned {page!r}, which is no {page_type.__name__}")
        if page in self._held:
            raise InvalidPage(f"{self.pager!r} returned {page!r} a second time, while it is out")
        self._go_out(page)
        return page

    def release_page(self, page: Page) -> None:
        """Hands a page back to the inner pager; InvalidPage if it is not out, did not come from here, or is in use."""
        self._go_back(page, self.pager.release_page)

    def _retained_pages(self) -> Iterator[Page]:
        for page in cast("RetainingPager", self.pager).retained_pages():
            if page not in self._held:
                self._go_out(page)
            yield page

    def _retain_page(self, page: Page, live: int) -> None:
        self._go_back(page, lambda page: cast("RetainingPager", self.pager).retain_page(page, live))

    def __getattr__(self, name: str) -> Any:
        if name in ("retained_pages", "retain_page") and hasattr(self.pager, name):
            return getattr(self, f"_{name}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def _remember(self) -> Origin:
        """What to keep beside the page that goes out; not None."""
        raise NotImplementedError

    def _go_out(self, page: Page) -> None:
        memory = self._remember()
        with self._lock:
            self._hold(page, memory)

    def _go_back(self, page: Page, give: Callable[[Page], None]) -> None:
        with self._lock:
            origin = self._claim(page)
        try:
            give(page)
        except BaseException:
            with self._lock:
                self._hold(page, origin)
            raise

    def _shut(self) -> None:
        close = getattr(self.pager, "close", None)
        if close is not None:
            close()

    def _details(self) -> str:
        return f"over {self.pager!r}"


class LimitingPager(Adaptor[bool]):
    """At most `max_bytes` of pages at a time; beyond, OutOfMemory names the limit and the use.

    Retained pages of the inner pager count, though they are never refused.

    >>> from slabmalloc.pagers import MmapPager
    >>> pager = LimitingPager(MmapPager(), max_bytes=8192)
    >>> pages = [pager.allocate_page(), pager.allocate_page()]
    >>> pager.allocate_page()
    Traceback (most recent call last):
        ...
    slabmalloc.errors.OutOfMemory: limit of 8 KiB: 8 KiB in use, 4 KiB more asked for
    """

    def __init__(self, pager: Pager, max_bytes: int) -> None:
        super().__init__(pager)
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}: a limit can't be negative")
        self.max_bytes = max_bytes
        self._promised_bytes = 0  # asked of the inner pager and not here yet

    def allocate_page(self, page_type: type[Page] = ObjectPage) -> Page:
        """A page of the inner pager, if the limit allows it; otherwise OutOfMemory."""
        size = check_page_type(page_type).SIZE
        with self._lock:
            used = self._held_bytes + self._promised_bytes
            if used + size > self.max_bytes:
                raise OutOfMemory(
                    f"limit of {readable_bytes(self.max_bytes)}: {readable_bytes(used)} in use, "
                    f"{readable_bytes(size)} more asked for"
                )
            self._promised_bytes += size
        try:
            return super().allocate_page(page_type)
        finally:
            with self._lock:
                self._promised_bytes -= size

    def _remember(self) -> bool:
        return True

    def _details(self) -> str:
        return f"limit {readable_bytes(self.max_bytes)}, {super()._details()}"


@dataclass(frozen=True, slots=True)
class PageTypeStats:
    """Pages of one type that went through a pager."""

    allocated: int = 0
    """Pages handed out so far."""
    released: int = 0
    """Pages taken back so far, retained ones included."""
    refused: int = 0
    """Requests so far that raised."""
    peak_pages: int = 0
    """The most pages that were out at a time."""

    @property
    def pages_in_use(self) -> int:
        """Pages that are out."""
        return self.allocated - self.released


@dataclass(frozen=True, slots=True)
class PagerStats:
    """What went through a pager; sums, and one record for each page type asked for."""

    pages_in_use: int
    bytes_in_use: int
    peak_pages: int
    peak_bytes: int
    allocated: int
    released: int
    refused: int
    by_type: Mapping[type[Page], PageTypeStats]


class StatisticsPager(Adaptor[bool]):
    """Counts what goes through.

    >>> from slabmalloc.pagers import MmapPager
    >>> pager = StatisticsPager(MmapPager())
    >>> pages = [pager.allocate_page() for _ in range(3)]
    >>> pager.release_page(pages.pop())
    >>> stats = pager.stats()
    >>> stats.pages_in_use, stats.peak_bytes, stats.by_type[ObjectPage].released
    (2, 12288, 1)
    """

    def __init__(self, pager: Pager) -> None:
        super().__init__(pager)
        self._peak_pages = 0
        self._peak_bytes = 0
        self._counts: Counter[tuple[type[Page], str]] = Counter()

    def stats(self) -> PagerStats:
        """The counts as they are now."""
        with self._lock:
            counts = self._counts.copy()
            by_type = {
                kind: PageTypeStats(
                    *(counts[kind, name] for name in ("allocated", "released", "refused", "peak_pages"))
                )
                for kind in dict.fromkeys(kind for kind, _ in counts)
            }
            return PagerStats(
                pages_in_use=len(self._held),
                bytes_in_use=self._held_bytes,
                peak_pages=self._peak_pages,
                peak_bytes=self._peak_bytes,
                allocated=sum(kind.allocated for kind in by_type.values()),
                released=sum(kind.released for kind in by_type.values()),
                refused=sum(kind.refused for kind in by_type.values()),
                by_type=MappingProxyType(by_type),
            )

    def allocate_page(self, page_type: type[Page] = ObjectPage) -> Page:
        """A page of the inner pager, counted; what that raises is counted too."""
        try:
            return super().allocate_page(page_type)
        except Exception:
            with self._lock:
                self._counts[page_type, "refused"] += 1
            raise

    def _go_out(self, page: Page) -> None:
        kind = type(page)
        with self._lock:
            super()._go_out(page)
            counts = self._counts
            counts[kind, "allocated"] += 1
            counts[kind, "peak_pages"] = max(
                counts[kind, "peak_pages"], counts[kind, "allocated"] - counts[kind, "released"]
            )
            self._peak_pages = max(self._peak_pages, len(self._held))
            self._peak_bytes = max(self._peak_bytes, self._held_bytes)

    def _go_back(self, page: Page, give: Callable[[Page], None]) -> None:
        super()._go_back(page, give)
        with self._lock:
            self._counts[type(page), "released"] += 1

    def _remember(self) -> bool:
        return True

    def _details(self) -> str:
        return f"peak {self._peak_pages} ({readable_bytes(self._peak_bytes)}), {super()._details()}"


Frame = tuple[str, int, str]  # file, line, function
PACKAGE_PATH = __file__.rpartition("pagers")[0]


class TrackingPager(Adaptor[tuple[Frame, ...]]):
    """Remembers, for each page that is out, the stack that asked for it, as names and line numbers.

    depth: frames to keep, innermost first; those inside slabmalloc are left out.

    >>> from slabmalloc.pagers import MmapPager
    >>> pager = TrackingPager(MmapPager(), depth=2)
    >>> def load():
    ...     return pager.allocate_page()
    >>> page = load()
    >>> print(pager.report())  # doctest: +ELLIPSIS
    1 page (4 KiB) in use, from 1 place
    1 page (4 KiB):
      File "...", line 1, in <module>
        page = load()
      File "...", line 2, in load
        return pager.allocate_page()
    """

    def __init__(self, pager: Pager, depth: int = 16) -> None:
        super().__init__(pager)
        if depth < 1:
            raise ValueError(f"depth is {depth}: at least one frame must be kept")
        self.depth = depth

    def holders(self) -> dict[Page, StackSummary]:
        """The pages that are out, in the order in which they went, each with its stack, innermost frame last."""
        return {page: _summary(stack) for page, stack in list(self._held.items())}

    def report(self, limit: int = 10) -> str:
        """Who holds pages: the stacks, those with the most bytes first, at most `limit` of them."""
        pages: Counter[tuple[Frame, ...]] = Counter()
        sizes: Counter[tuple[Frame, ...]] = Counter()
        for page, stack in list(self._held.items()):
            pages[stack] += 1
            sizes[stack] += page.SIZE
        lines = [f"{self._usage()}, from {_counted(len(pages), 'place')}"]
        for stack, size in sizes.most_common(limit):
            lines.append(f"{_counted(pages[stack], 'page')} ({readable_bytes(size)}):")
            lines += "".join(_summary(stack).format()).rstrip("\n").split("\n")
        if len(sizes) > limit:
            lines.append(f"... and {_counted(len(sizes) - limit, 'place')} more")
        return "\n".join(lines)

    def _remember(self) -> tuple[Frame, ...]:
        # Only numbers and names: no frame is kept alive, and no source is read before somebody wants to see it.
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE_PATH):
            frame = frame.f_back
        stack: list[Frame] = []
        caller: Any = frame
        while caller is not None and len(stack) < self.depth:
            code = caller.f_code
            stack.append((code.co_filename, caller.f_lineno, code.co_name))
            caller = caller.f_back
        return tuple(stack)


def _summary(stack: tuple[Frame, ...]) -> StackSummary:
    from traceback import StackSummary

    return StackSummary.from_list([(*frame, None) for frame in reversed(stack)])


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


class LoggingPager(Adaptor[bool]):
    """Writes a record for each page that goes out or back, and a warning for each refusal.

    logger: default `slabmalloc.pagers`.
    level:  of the ordinary records, by default `logging.DEBUG`.

    >>> import logging
    >>> from slabmalloc.pagers import MmapPager
    >>> LoggingPager(MmapPager(), level=logging.INFO).allocate_page().size
    4096
    """

    def __init__(self, pager: Pager, logger: logging.Logger | None = None, level: int = 10) -> None:
        import logging  # only who logs pays for its import

        super().__init__(pager)
        self.logger = logger or logging.getLogger("slabmalloc.pagers")
        self.level = level

    def allocate_page(self, page_type: type[Page] = ObjectPage) -> Page:
        """A page of the inner pager, with a record."""
        try:
            return super().allocate_page(page_type)
        except Exception as error:
            kind = getattr(page_type, "__name__", page_type)
            self.logger.warning("no %s: %s: %s", kind, type(error).__name__, error)
            raise

    def _go_out(self, page: Page) -> None:
        super()._go_out(page)
        self._log("out", page)

    def _go_back(self, page: Page, give: Callable[[Page], None]) -> None:
        super()._go_back(page, give)
        self._log("back", page)

    def _log(self, direction: str, page: Page) -> None:
        self.logger.log(
            self.level, "%s at %#x %s; %d in use", type(page).__name__, page.address, direction, self.pages_in_use
        )

    def _remember(self) -> bool:
        return True
