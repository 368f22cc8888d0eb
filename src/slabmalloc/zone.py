# SPDX-License-Identifier: MIT
"""The two allocators of the library, native form (floor 5): which pages they have, and where more come from.

The core (by `_native.Zone`) knows addresses; here are the pages behind them, the pager's part, and the end of a zone,
when every page goes back once. `slabmalloc.reference` says in plain Python what all of it means.
"""

from __future__ import annotations

from sys import maxsize
from typing import TYPE_CHECKING, Any

from . import _native
from ._native import Layout
from .errors import InvalidLayout, InvalidPage, OutOfMemory
from .pages import ObjectPage, Page, readable_bytes
from .size_classes import GRANULE_BYTES, MAX_BASE_BYTES, MAX_BYTES, SizeClasses
from .slab_format import wipe
from .zone_stats import ClassStats, ZoneStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    import numpy

    from .pagers import Pager

__all__ = ["SCAllocator", "ZoneAllocator"]


class Allocator(_native.Zone):
    """What both allocators share: pages in, pages out, statistics."""

    def __init__(self, size_classes: SizeClasses, pager: Pager | None) -> None:
        self.size_classes = size_classes
        self.pager = pager
        self._create(
            size_classes.sizes, size_classes.base_page.SIZE, size_classes.large_page.SIZE, size_classes.max_base_size
        )
        try:
            for page in getattr(pager, "retained_pages", tuple)():
                self.restore(page)
        except BaseException:
            self.close()
            raise

    # ---- pages come ----

    def restore(self, page: Page) -> None:
        """Takes a page that carries a slab of an earlier allocator, with its live objects and free slots.

        Raises InvalidPage if it carries none, a torn one, or one of a size class that is not here.
        """
        self._take(page, lambda: self._restore_at(page.address, page.SIZE))

    def _page_of(self, layout: Layout) -> type[Page]:
        """The page type on which objects of this layout live; InvalidLayout."""
        size = self._class_bytes(layout)
        classes = self.size_classes
        return classes.base_page if size <= classes.max_base_size else classes.large_page

    def _refill(self, layout: Layout, page: Page) -> None:
        wanted = self._page_of(layout)
        if not isinstance(page, Page):
            raise TypeError(f"a page is needed, not {type(page).__name__}")
        if not isinstance(page, wanted):
            size = self._class_bytes(layout)
            raise InvalidLayout(f"objects of {size} bytes live on {wanted.__name__}, not on {page!r}")
        self._take(page, lambda: self._refill_at(layout, page.address, page.SIZE))

    def _take(self, page: Page, join: Callable[[], None]) -> None:
        page._take(self)
        # Before it can be allocated from: another thread that takes turns with this one may let it go at once.
        known = self._pages.setdefault(page.address, page)
        try:
            join()
        except BaseException as error:
            if known is page:
                del self._pages[page.address]
            page._give_back()
            if isinstance(error, InvalidPage):
                raise InvalidPage(f"{page!r}: {error}") from None
            raise

    def _refill_dry(self, layout: Layout) -> None:
        """The class of this layout has no slot left: one more page from the pager, or OutOfMemory."""
        wanted = self._page_of(layout)
        if self.pager is None:
            raise OutOfMemory(
                f"no slot of {self._class_bytes(layout)} bytes is free: refill with one more {wanted.__name__}"
            )
        page = self.pager.allocate_page(wanted)
        if not isinstance(page, wanted):
            raise InvalidPage(f"{self.pager!r} returned {page!r}, which is no {wanted.__name__}")
        try:
            self._refill(layout, page)
        except BaseException:
            if not page.in_use:
                self.pager.release_page(page)
            raise

    # ---- pages go ----

    def _let_go(self, address: int) -> Page:
        page = self._pages.pop(address)
        page._give_back()
        return page

    def _reclaim(self, page_type: type[Page], count: int, dealloc: Callable[[Page], object]) -> int:
        if count < 0:
            raise ValueError(f"can't reclaim {count} pages")
        reclaimed = 0
        # One at a time: if dealloc raises, only the page that it was given has left.
        while reclaimed < count and (address := self._reclaim_one(page_type.SIZE)) is not None:
            dealloc(self._let_go(address))
            reclaimed += 1
        return reclaimed

    def reclaim(self) -> int:
        """Gives every empty page back to the pager, and returns how many. ValueError without a pager."""
        if self.pager is None:
            raise ValueError("there is no pager to give pages back to")
        kinds = dict.fromkeys((self.size_classes.base_page, self.size_classes.large_page))
        return sum(self._reclaim(kind, maxsize, self.pager.release_page) for kind in kinds)

    def close(self) -> None:
        """Gives every page back, with live objects or without, and ends the allocator. Closing twice is fine.

        A pager with a method `retain_page` gets pages with live objects by it, to hand them to a later zone. Raises
        BufferError, and changes nothing, while buffers live.
        """
        retain = getattr(self.pager, "retain_page", None)
        for address, live in self._detach():
            page = self._let_go(address)
            if live and retain is not None:
                retain(page, live)
                continue
            wipe(page)
            if self.pager is not None:
                self.pager.release_page(page)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ---- what is there ----

    def stats(self) -> ZoneStats:
        """What every byte of every page is used for; collects remote frees first. O(pages)."""
        rows = (ClassStats(**self._class_stats(index)) for index in range(len(self.size_classes.sizes)))
        return ZoneStats.from_classes((row for row in rows if row.pages_taken), self.bookkeeping_bytes)

    def __repr__(self) -> str:
        if self.closed:
            return f"<{type(self).__name__}, closed>"
        live = self._class_stats(-1)["live_objects"]
        mapped = sum(page.SIZE for page in self._pages.values())
        return f"<{type(self).__name__} with {live} objects on {len(self._pages)} pages, {readable_bytes(mapped)}>"


class SCAllocator(Allocator):
    """Objects of one size class: `size` bytes, rounded up to a multiple of 8, on pages of one type.

    With a pager it refills itself; without one it raises OutOfMemory, and the caller refills it.

    >>> from slabmalloc import Layout, MmapPager, SCAllocator
    >>> allocator = SCAllocator(60, pager=MmapPager())
    >>> allocator.size, allocator.objects_per_page
    (64, 63)
    >>> layout = Layout.from_size_align(60, 4)
    >>> allocator.deallocate(allocator.allocate(layout), layout)
    """

    def __init__(self, size: int, page_type: type[Page] = ObjectPage, pager: Pager | None = None) -> None:
        self.size = -(-size // GRANULE_BYTES) * GRANULE_BYTES
        self.page_type = page_type
        super().__init__(SizeClasses((self.size,), page_type, page_type, self.size), pager)

    @property
    def objects_per_page(self) -> int:
        """Slots of a page."""
        capacity: int = self._class_stats(0)["capacity"]
        return capacity

    def refill(self, page: Page) -> None:
        """Takes an empty page. InvalidLayout: it is of another type. InvalidPage: in use, or it carries a slab."""
        self._refill(Layout.from_size_align(self.size, 1), page)

    def try_reclaim_pages(self, to_reclaim: int, dealloc: Callable[[Page], object]) -> int:
        """Calls `dealloc` with each of up to `to_reclaim` empty pages, which have left; returns how many."""
        return self._reclaim(self.page_type, to_reclaim, dealloc)


class ZoneAllocator(Allocator):
    """Objects of many sizes: an allocator per size class, on two kinds of page.

    pager: where pages come from when a class runs dry, and go in the end; without one `allocate` raises OutOfMemory
           and the caller refills.
    size_classes: `SizeClasses.default()` unless said otherwise.

    >>> from slabmalloc import Layout, MmapPager, ZoneAllocator
    >>> zone = ZoneAllocator(MmapPager())
    >>> layout = Layout.from_size_align(100, 4)
    >>> address = zone.allocate(layout)
    >>> zone.deallocate(address, layout)
    >>> zone.deallocate(address, layout)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    slabmalloc.errors.DoubleFree: ... is free already: slot 0 of ...
    """

    MAX_ALLOC_SIZE: int = MAX_BYTES
    MAX_BASE_ALLOC_SIZE: int = MAX_BASE_BYTES

    def __init__(self, pager: Pager | None = None, *, size_classes: SizeClasses | None = None) -> None:
        classes = SizeClasses.default() if size_classes is None else size_classes
        self.MAX_ALLOC_SIZE = classes.max_size
        self.MAX_BASE_ALLOC_SIZE = classes.max_base_size
        super().__init__(classes, pager)

    def get_max_size(self, size: int) -> int | None:
        """The size class that serves `size` bytes; None if it is too large."""
        if size > self.MAX_ALLOC_SIZE:
            return None
        return self.size_classes.sizes[self.size_classes.index_of(size, 1)]

    def refill(self, layout: Layout, page: Page) -> None:
        """Takes an empty page for the class of a layout up to MAX_BASE_ALLOC_SIZE.

        InvalidLayout: the layout lives on large pages, or the page is of another type. InvalidPage: it is in use, or
        carries a slab.
        """
        if self._class_bytes(layout) > self.MAX_BASE_ALLOC_SIZE:
            raise InvalidLayout(f"{layout} lives on large pages: use refill_large")
        self._refill(layout, page)

    def refill_large(self, layout: Layout, page: Page) -> None:
        """Takes an empty page for the class of a layout above MAX_BASE_ALLOC_SIZE; errors as for `refill`."""
        if self._class_bytes(layout) <= self.MAX_BASE_ALLOC_SIZE:
            raise InvalidLayout(f"{layout} lives on base pages: use refill")
        self._refill(layout, page)

    def try_reclaim_base_pages(self, to_reclaim: int, dealloc: Callable[[Page], object]) -> int:
        """Calls `dealloc` with each of up to `to_reclaim` empty base pages, which have left; returns how many."""
        return self._reclaim(self.size_classes.base_page, to_reclaim, dealloc)

    def try_reclaim_large_pages(self, to_reclaim: int, dealloc: Callable[[Page], object]) -> int:
        """The same for large pages."""
        return self._reclaim(self.size_classes.large_page, to_reclaim, dealloc)

    def array(self, shape: int | Sequence[int], dtype: Any) -> numpy.ndarray[Any, Any]:
        """A NumPy array in this zone's memory, its contents whatever was there before; the array keeps the memory.

        shape: items per dimension; dtype: whatever `numpy.dtype` takes. Needs NumPy; raises as `allocate` does.
        """
        import numpy

        layout = Layout.for_dtype(dtype, shape)
        return numpy.ndarray(shape, dtype, memoryview(self.buffer(layout.size, layout.align)))
