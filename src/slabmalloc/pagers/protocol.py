# SPDX-License-Identifier: MIT
"""What a pager is, and what ours have in common (floor 5).

`Pager` is the whole contract: two methods. A zone asks for nothing else, so a class of the client's own serves as well
as any here. `RetainingPager` adds what a pager needs whose pages outlive the process. `HoldingPager` is the base of
ours: it knows the pages that are out, refuses what is not its own, and closes only when all are back.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar, runtime_checkable

from ..errors import InvalidPage
from ..pages import ObjectPage, Page, readable_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

__all__ = ["HoldingPager", "Pager", "RetainingPager"]

Origin = TypeVar("Origin")


@runtime_checkable
class Pager(Protocol):
    """Whoever supplies pages and takes them back.

    >>> class OnePage:
    ...     def __init__(self, page):
    ...         self.pages = [page]
    ...     def allocate_page(self, page_type=ObjectPage):
    ...         return self.pages.pop()
    ...     def release_page(self, page):
    ...         self.pages.append(page)
    >>> issubclass(OnePage, Pager)
    True
    """

    def allocate_page(self, page_type: type[Page] = ObjectPage, /) -> Page:
        """A page of exactly this type that nobody else has; raises OutOfMemory when there is none."""

    def release_page(self, page: Page, /) -> None:
        """Takes back a page that it handed out and that no allocator uses; otherwise raises InvalidPage."""


@runtime_checkable
class RetainingPager(Pager, Protocol):
    """A pager whose pages may carry slabs from before: those of a file or of a shared-memory segment."""

    def retained_pages(self) -> Iterable[Page]:
        """The pages that carry slabs; from here on they are out. A zone restores them when it is made."""

    def retain_page(self, page: Page, live: int, /) -> None:
        """Takes back a page whose slab, with `live` objects, is to be kept. A zone calls it when it ends."""


class HoldingPager(Generic[Origin]):
    """Knows each page that is out, and the place that it came from.

    Thread-safe, and safe against itself: the collector may end a zone, and so release pages, in the middle of any call
    here. The lock therefore lets its holder in again, and every change leaves a state that may be met.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._held: dict[Page, Origin] = {}
        self._held_bytes = 0
        self._closed = False

    @property
    def pages_in_use(self) -> int:
        """Pages that are out, of any type."""
        return len(self._held)

    @property
    def bytes_in_use(self) -> int:
        """Bytes of the pages that are out."""
        return self._held_bytes

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed

    def close(self) -> None:
        """Gives up the pager's memory; BufferError, and no change, while a page is out. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._refuse_to_close_in_use()
            self._shut()
            self._closed = True

    def _shut(self) -> None:
        """What a subclass does at the end; no page is out."""

    def _refuse_to_close_in_use(self) -> None:
        if self._held:
            raise BufferError(
                f"{type(self).__name__} can't close: {self._usage()}; close the zones that have them, or release them"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"this {type(self).__name__} is closed")

    def _hold(self, page: Page, origin: Origin) -> None:
        """`page` goes out. The caller has the lock."""
        self._held[page] = origin
        self._held_bytes += page.SIZE

    def _claim(self, page: Page) -> Origin:
        """`page` comes back: its origin; InvalidPage if it may not. The caller has the lock."""
        origin = self._held.get(page)
        if origin is None:
            raise InvalidPage(f"{page!r} is not a page that {self!r} has handed out, or it went back already")
        if page.in_use:
            raise InvalidPage(f"{page!r} can't go back to {self!r}: reclaim it from its allocator first")
        del self._held[page]
        self._held_bytes -= page.SIZE
        return origin

    def _usage(self) -> str:
        count = len(self._held)
        return f"{count} page{'' if count == 1 else 's'} ({readable_bytes(self._held_bytes)}) in use"

    def _details(self) -> str:
        """What a subclass adds to its repr."""
        return ""

    def __repr__(self) -> str:
        if self._closed:
            return f"<{type(self).__name__}: closed>"
        details = self._details()
        return f"<{type(self).__name__}: {self._usage()}{', ' if details else ''}{details}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except BufferError:
            if error is None:  # what went wrong inside says more than that its pages are still out
                raise


def check_page_type(page_type: object) -> type[Page]:
    """`page_type`, or TypeError if no page can be made of it."""
    if not isinstance(page_type, type) or not issubclass(page_type, Page) or page_type is Page:
        raise TypeError(f"a page type such as ObjectPage or page_type(65536) is wanted, not {page_type!r}")
    return page_type


def request_text(page_type: type[Page]) -> str:
    """What was asked for, as errors say it.

    >>> request_text(ObjectPage)
    '4 KiB for an ObjectPage'
    """
    name = page_type.__name__
    return f"{readable_bytes(page_type.SIZE)} for a{'n' if name[0] in 'AEIOU' else ''} {name}"
