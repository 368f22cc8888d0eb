# SPDX-License-Identifier: MIT
"""The library once more in plain Python, written to be read: what the native allocators do, to the address (floor 5).

The specification begins in `slab_format` (what lies in a page) and `slab_lists` (which slot is next). Here are the
checks and errors, `Allocator`, and what users see: `Layout`, `SCAllocator`, `ZoneAllocator`, `Buffer`. The model tests
run both forms step by step and compare addresses, errors and statistics. This one also serves where the extension
can't be loaded.
"""

from __future__ import annotations

import ctypes
import weakref
from array import array, typecodes
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from math import prod
from operator import index as to_int
from sys import maxsize
from typing import TYPE_CHECKING, Any

from .errors import AllocationError, DoubleFree, InvalidFree, InvalidLayout, InvalidPage, OutOfMemory
from .pages import LargeObjectPage, ObjectPage, Page, page_type, readable_bytes
from .size_classes import GRANULE_BYTES, MAX_BASE_BYTES, MAX_BYTES, SizeClasses
from .slab_format import carried_by, slab_geometry, wipe
from .slab_lists import SizeClassLists, Slab
from .zone_stats import ZoneStats

if TYPE_CHECKING:
    from typing import Self

    from .pagers.protocol import Pager

__all__ = ["Buffer", "Layout", "SCAllocator", "SizeClasses", "ZoneAllocator"]
__all__ += ["LargeObjectPage", "ObjectPage", "Page", "page_type"]
__all__ += ["AllocationError", "DoubleFree", "InvalidFree", "InvalidLayout", "InvalidPage", "OutOfMemory"]


@dataclass(frozen=True, slots=True)
class Layout:
    """What an object needs: `size` bytes at an address that is a multiple of `align`, a power of two.

    >>> Layout.from_size_align(64, 8)
    Layout(size=64, align=8)
    >>> Layout.for_dtype("d", (3, 4))
    Layout(size=96, align=8)
    """

    size: int
    align: int

    def __post_init__(self) -> None:
        if not 0 < self.size <= maxsize:
            raise InvalidLayout(f"size {self.size} is not positive, or beyond any memory")
        if not 0 < self.align <= maxsize or self.align & (self.align - 1):
            raise InvalidLayout(f"alignment {self.align} is not a power of two")

    @classmethod
    def from_size_align(cls, size: int, align: int) -> Layout:
        """The layout of `size` bytes aligned to `align`; InvalidLayout if there is none."""
        return cls(to_int(size), to_int(align))

    @classmethod
    def for_dtype(cls, dtype: Any, shape: int | Iterable[int] = ()) -> Layout:
        """The layout of an array: a typecode of `array`, or whatever `numpy.dtype` takes; `shape` counts its items."""
        if isinstance(dtype, str) and len(dtype) == 1 and dtype in typecodes:
            itemsize = align = array(dtype).itemsize
        else:
            import numpy

            kind = numpy.dtype(dtype)
            if kind.hasobject:
                raise InvalidLayout(f"{kind!r} holds references to Python objects, which nobody would count here")
            itemsize, align = kind.itemsize, kind.alignment
        lengths = tuple(shape) if isinstance(shape, Iterable) else (shape,)
        if any(length < 0 for length in lengths):
            raise InvalidLayout(f"shape {shape} has a negative length")
        return cls.from_size_align(itemsize * prod(lengths), align)


class Allocator:
    """What both allocators share. Every operation is checked whole before anything changes."""

    def __init__(self, size_classes: SizeClasses, pager: Pager | None) -> None:
        self.size_classes = size_classes
        self.pager = pager
        self._classes = [SizeClassLists(size, size_classes.page_of(i)) for i, size in enumerate(size_classes.sizes)]
        self._slabs: dict[int, Slab] = {}  # by page address
        self._buffers = 0
        self.closed = False
        try:
            for page in getattr(pager, "retained_pages", tuple)():
                self.restore(page)
        except BaseException:
            self.close()
            raise

    # ---- pages come ----

    def restore(self, page: Page) -> None:
        """Takes a page that carries a slab of an earlier allocator, live objects and all; InvalidPage if it can't."""
        self._check_open()
        carried = carried_by(page)
        if carried is None:
            raise InvalidPage(f"{page!r} carries no slab, or a torn one")
        for lists in self._classes:
            geometry = slab_geometry(lists.object_bytes, page.SIZE)
            if isinstance(page, lists.page) and carried == (lists.object_bytes, geometry.capacity):
                return self._take(lists, page, Slab.restore)
        raise InvalidPage(f"{page!r} carries objects of {carried[0]} bytes: no size class here has them on such a page")

    def _refill(self, lists: SizeClassLists, page: Page) -> None:
        if not isinstance(page, Page):
            raise TypeError(f"a page is needed, not {type(page).__name__}")
        if not isinstance(page, lists.page):
            raise InvalidLayout(f"objects of {lists.object_bytes} bytes live on {lists.page.__name__}, not on {page!r}")
        if not page.in_use and carried_by(page):
            raise InvalidPage(f"{page!r} carries a slab: restore it, or wipe it first")
        self._take(lists, page, Slab.format)

    def _take(self, lists: SizeClassLists, page: Page, prepare: Callable[[Slab], None]) -> None:
        page._take(self)
        try:
            for other in (slab.page for slab in self._slabs.values()):
                if -page.SIZE < page.address - other.address < other.SIZE:
                    raise InvalidPage(f"{page!r} overlaps {other!r}")
            slab = Slab(page, lists.object_bytes)
            prepare(slab)
        except BaseException:
            page._give_back()
            raise
        self._slabs[page.address] = slab
        lists.pages_taken += 1
        lists.add(slab)

    def _refill_from_pager(self, lists: SizeClassLists) -> None:
        if self.pager is None:
            raise OutOfMemory(
                f"no slot of {lists.object_bytes} bytes is free: refill with one more {lists.page.__name__}"
            )
        page = self.pager.allocate_page(lists.page)
        if not isinstance(page, lists.page):
            raise InvalidPage(f"{self.pager!r} returned {page!r}, which is no {lists.page.__name__}")
        try:
            self._check_open()  # the pager may have closed it
            self._refill(lists, page)
        except BaseException:
            if not page.in_use:
                self.pager.release_page(page)
            raise

    # ---- pages go ----

    def _let_go(self, lists: SizeClassLists, slab: Slab) -> Page:
        del self._slabs[slab.page.address]
        lists.pages_returned += 1
        slab.page._give_back()
        return slab.page

    def _reclaim(self, page: type[Page], count: int, dealloc: Callable[[Page], object]) -> int:
        self._check_open()
        if count < 0:
            raise ValueError(f"can't reclaim {count} pages")
        reclaimed = 0
        for lists in self._classes:
            while lists.page is page and reclaimed < count and (slab := lists.remove_empty()):
                wipe(slab.page)
                dealloc(self._let_go(lists, slab))
                reclaimed += 1
        return reclaimed

    def reclaim(self) -> int:
        """Every empty page goes to the pager; how many. ValueError without a pager."""
        if self.pager is None:
            raise ValueError("there is no pager to give pages back to")
        kinds = dict.fromkeys(lists.page for lists in self._classes)
        return sum(self._reclaim(kind, maxsize, self.pager.release_page) for kind in kinds)

    def close(self) -> None:
        """Every page goes back, with live objects or without; BufferError while buffers live. Closing twice is fine.

        A pager with a method `retain_page` gets pages with live objects by it, unwiped, to hand them to a later zone.
        Whatever a closed zone is asked for raises ValueError.
        """
        if self._buffers:
            raise BufferError(f"{self._buffers} buffers still use the memory of {self!r}")
        self.closed = True
        retain = getattr(self.pager, "retain_page", None)
        for lists in self._classes:
            slabs = list(lists)
            lists.current, lists.lists = None, [{} for _ in lists.lists]
            for slab in slabs:
                page = self._let_go(lists, slab)
                if slab.live and retain is not None:
                    retain(page, slab.live)
                    continue
                wipe(page)
                if self.pager is not None:
                    self.pager.release_page(page)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"this {type(self).__name__} is closed")

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "closed"):  # __init__ came so far
            self._buffers = 0  # those that are left are garbage as well, in one cycle with the zone
            self.close()

    # ---- objects come ----

    def _class_of(self, layout: Layout) -> SizeClassLists:
        self._check_open()
        return self._classes[self.size_classes.index_of(layout.size, layout.align)]

    def allocate(self, layout: Layout) -> int:
        """Address of an object of this layout. InvalidLayout, or OutOfMemory if no slot is free and no page comes."""
        lists = self._class_of(layout)
        while (address := lists.allocate()) is None:
            self._refill_from_pager(lists)
        return address

    def allocate_many(self, layout: Layout, n: int) -> array[int]:
        """Addresses of `n` objects, in the order of as many calls of `allocate`; all of them, or an error and none."""
        if n < 0:
            raise ValueError(f"can't allocate {n} objects")
        self._class_of(layout)
        addresses = array("Q")
        try:
            for _ in range(n):
                addresses.append(self.allocate(layout))
        except BaseException:
            self.deallocate_many(addresses, layout)
            raise
        return addresses

    # ---- objects go ----

    def deallocate(self, address: int, layout: Layout) -> None:
        """Gives back what `allocate` returned for a layout of this class; else InvalidFree or DoubleFree."""
        lists = self._class_of(layout)
        lists.deallocate(*self._find(to_int(address), lists))

    def deallocate_many(self, addresses: Iterable[int], layout: Layout) -> None:
        """Gives back all of `addresses` (ints, or a buffer of 64-bit words), or raises and gives back none."""
        lists = self._class_of(layout)
        found: dict[int, tuple[Slab, int]] = {}
        for number, address in enumerate(map(to_int, addresses)):
            try:
                if address in found:
                    raise DoubleFree(f"{address:#x} stands there twice")
                found[address] = self._find(address, lists)
            except InvalidFree as error:
                raise type(error)(f"addresses[{number}]: {error}") from None
        for slab, slot in found.values():
            lists.deallocate(slab, slot)

    def _find(self, address: int, lists: SizeClassLists) -> tuple[Slab, int]:
        """Slab and slot of a live object of this class, or what is wrong with the address."""
        slab = self._slab_at(address)
        if slab is None:
            raise InvalidFree(f"{address:#x} is on no page of {self!r}")
        if slab.object_bytes != lists.object_bytes:
            raise InvalidFree(f"{address:#x} is an object of {slab.object_bytes} bytes, not of {lists.object_bytes}")
        slot, excess = divmod(address - slab.page.address, slab.object_bytes)
        if slot >= slab.capacity:
            raise InvalidFree(f"{address:#x} is behind the last of {slab.capacity} slots, in the end of {slab.page!r}")
        if excess:
            raise InvalidFree(f"{address:#x} is {excess} bytes into slot {slot}, which begins at {address - excess:#x}")
        if slot in slab.local:
            raise DoubleFree(f"{address:#x} is free already: slot {slot} of {slab.page!r}")
        return slab, slot

    def _slab_at(self, address: int) -> Slab | None:
        for size in (self.size_classes.base_page.SIZE, self.size_classes.large_page.SIZE):
            slab = self._slabs.get(address & -size)
            if slab is not None and size <= slab.page.SIZE:
                return slab
        return None

    # ---- what is there ----

    def stats(self) -> ZoneStats:
        """What every byte of every page is used for."""
        self._check_open()
        return ZoneStats.from_classes(lists.stats() for lists in self._classes if lists.pages_taken)

    def audit(self) -> None:
        """RuntimeError, which names the first invariant that does not hold."""
        slabs = [slab for lists in self._classes for slab in lists]
        faults = [fault for lists in self._classes for fault in lists.faults()]
        if len(slabs) != len(self._slabs) or {slab.page.address: slab for slab in slabs} != self._slabs:
            faults.append("the slabs on lists are not those of the pages")
        if not self.stats().conserved:
            faults.append("not every byte is accounted for")
        if faults:
            raise RuntimeError(f"{self!r} is corrupt: {faults[0]}")

    def __repr__(self) -> str:
        if self.closed:
            return f"<{type(self).__name__}, closed>"
        live = sum(slab.live for slab in self._slabs.values())
        mapped = sum(slab.page.SIZE for slab in self._slabs.values())
        return f"<{type(self).__name__} with {live} objects on {len(self._slabs)} pages, {readable_bytes(mapped)}>"


class SCAllocator(Allocator):
    """Objects of one size class: `size` bytes, rounded up to a multiple of 8, on pages of one type.

    >>> import mmap
    >>> allocator = SCAllocator(60)
    >>> allocator.refill(ObjectPage(mmap.mmap(-1, 4096)))
    >>> allocator.size, allocator.objects_per_page
    (64, 63)
    >>> allocator.allocate(Layout.from_size_align(60, 4)) % 4
    0
    """

    def __init__(self, size: int, page_type: type[Page] = ObjectPage, pager: Pager | None = None) -> None:
        self.size = -(-size // GRANULE_BYTES) * GRANULE_BYTES
        self.page_type = page_type
        super().__init__(SizeClasses((self.size,), page_type, page_type, self.size), pager)

    @property
    def objects_per_page(self) -> int:
        """Slots of a page."""
        return slab_geometry(self.size, self.page_type.SIZE).capacity

    def refill(self, page: Page) -> None:
        """Takes an empty page. InvalidLayout: it is of another type. InvalidPage: in use, or it carries a slab."""
        self._refill(self._classes[0], page)

    def try_reclaim_pages(self, to_reclaim: int, dealloc: Callable[[Page], object]) -> int:
        """Calls `dealloc` with each of up to `to_reclaim` empty pages, which has left the allocator; how many."""
        return self._reclaim(self.page_type, to_reclaim, dealloc)


class ZoneAllocator(Allocator):
    """Objects of many sizes: an allocator per size class, on two kinds of page.

    >>> import mmap
    >>> zone = ZoneAllocator()
    >>> layout = Layout.from_size_align(100, 4)
    >>> zone.refill(layout, ObjectPage(mmap.mmap(-1, 4096)))
    >>> address = zone.allocate(layout)
    >>> zone.deallocate(address, layout)
    >>> zone.deallocate(address, layout)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    slabmalloc.errors.DoubleFree: ... is free already: slot 0 of ...
    """

    MAX_ALLOC_SIZE = MAX_BYTES
    MAX_BASE_ALLOC_SIZE = MAX_BASE_BYTES

    def __init__(self, pager: Pager | None = None, *, size_classes: SizeClasses | None = None) -> None:
        classes = size_classes or SizeClasses.default()
        self.MAX_ALLOC_SIZE = classes.max_size
        self.MAX_BASE_ALLOC_SIZE = classes.max_base_size
        super().__init__(classes, pager)

    def get_max_size(self, size: int) -> int | None:
        """The size class that serves `size` bytes; None if it is too large."""
        if size > self.MAX_ALLOC_SIZE:
            return None
        return self.size_classes.sizes[self.size_classes.index_of(size, 1)]

    def refill(self, layout: Layout, page: Page) -> None:
        """Takes an empty page for the class of a layout up to MAX_BASE_ALLOC_SIZE; errors of `SCAllocator.refill`."""
        lists = self._class_of(layout)
        if lists.object_bytes > self.MAX_BASE_ALLOC_SIZE:
            raise InvalidLayout(f"{layout} lives on large pages: use refill_large")
        self._refill(lists, page)

    def refill_large(self, layout: Layout, page: Page) -> None:
        """Takes an empty page for the class of a layout above MAX_BASE_ALLOC_SIZE."""
        lists = self._class_of(layout)
        if lists.object_bytes <= self.MAX_BASE_ALLOC_SIZE:
            raise InvalidLayout(f"{layout} lives on base pages: use refill")
        self._refill(lists, page)

    def try_reclaim_base_pages(self, to_reclaim: int, dealloc: Callable[[Page], object]) -> int:
        """Calls `dealloc` with each of up to `to_reclaim` empty base pages, which has left the zone; how many."""
        return self._reclaim(self.size_classes.base_page, to_reclaim, dealloc)

    def try_reclaim_large_pages(self, to_reclaim: int, dealloc: Callable[[Page], object]) -> int:
        """The same for large pages."""
        return self._reclaim(self.size_classes.large_page, to_reclaim, dealloc)

    def buffer(self, nbytes: int, align: int = 16) -> Buffer:
        """`nbytes` bytes of this zone as a buffer, freed when nobody uses it any more."""
        return Buffer(self, Layout.from_size_align(nbytes, align))

    def array(self, shape: int | tuple[int, ...], dtype: Any) -> Any:
        """A NumPy array in this zone's memory, its contents whatever was there before; the array keeps the memory."""
        import numpy

        return numpy.ndarray(shape, dtype, Buffer(self, Layout.for_dtype(dtype, shape)).memory)


class Buffer:
    """A writable block of a zone's memory, freed when it and everything that looks into it are gone.

    >>> import mmap
    >>> zone = ZoneAllocator()
    >>> zone.refill(Layout.from_size_align(5, 16), ObjectPage(mmap.mmap(-1, 4096)))
    >>> with zone.buffer(5) as buffer:
    ...     buffer.memory[:] = b"hello"
    ...     bytes(buffer.memory), zone.stats().live_objects
    (b'hello', 1)
    >>> zone.stats().live_objects
    0
    """

    def __init__(self, zone: ZoneAllocator, layout: Layout) -> None:
        self.nbytes = layout.size
        self._address = zone.allocate(layout)
        slab, slot = zone._find(self._address, zone._class_of(layout))
        block = _block_type(slab.object_bytes).from_buffer(slab.page.buffer, slot * slab.object_bytes)
        block.zone, block.address, block.layout = zone, self._address, layout
        zone._buffers += 1
        self._view: memoryview | None = memoryview(block).cast("B")[: self.nbytes]

    def _open_view(self) -> memoryview:
        if self._view is None:
            raise ValueError("this buffer is released")
        return self._view

    @property
    def memory(self) -> memoryview:
        """The bytes, writable; ValueError once released."""
        return self._open_view()[:]

    @property
    def address(self) -> int:
        """Address of the first byte; ValueError once released."""
        self._open_view()
        return self._address

    def __buffer__(self, flags: int) -> memoryview:
        return self.memory

    @property
    def __array_interface__(self) -> dict[str, object]:
        return {"version": 3, "shape": (self.nbytes,), "typestr": "|u1", "data": self.memory}

    def release(self) -> None:
        """Frees the memory now; BufferError while something looks into it. Releasing twice is fine."""
        if self._view is None:
            return
        block = weakref.ref(self._view.obj)
        self._view = None
        if (held := block()) is not None:
            self._view = memoryview(held).cast("B")[: self.nbytes]
            raise BufferError(f"something still uses {self!r}")

    @property
    def released(self) -> bool:
        """True once the memory is freed."""
        return self._view is None

    def __enter__(self) -> Self:
        self._open_view()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def __len__(self) -> int:
        return self.nbytes

    def __repr__(self) -> str:
        return f"<Buffer of {self.nbytes} bytes{', released' if self.released else f' at {self._address:#x}'}>"


class _Block:
    """The slot of a buffer. Whatever looks into the memory keeps the block, and the block keeps its zone."""

    zone: ZoneAllocator
    address: int
    layout: Layout

    def __del__(self) -> None:
        if not self.zone.closed:
            self.zone._buffers -= 1
            self.zone.deallocate(self.address, self.layout)


@cache
def _block_type(nbytes: int) -> Any:
    """A block that exports `nbytes` bytes; ctypes is the one way to make such a thing that all interpreters have."""
    return type("Block", (_Block, ctypes.Array), {"_type_": ctypes.c_char, "_length_": nbytes})
