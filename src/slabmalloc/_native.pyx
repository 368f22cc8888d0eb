# SPDX-License-Identifier: MIT
# cython: language_level=3, binding=True, embedsignature=False
"""The core, from Python: conversion, lifetime and errors; policy is in zone.py and buffers.py (floor 5).

A zone here is owned by whoever holds the interpreter lock: its methods call the core as owner, without a switch of
threads in between. Code that runs without the lock frees by `c_functions()["deallocate"]`, a remote free.
"""

cimport cython
from cpython cimport array
from cpython.buffer cimport PyBUF_CONTIG, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_SetFromErrno
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport SIZE_MAX, uint64_t, uintptr_t


import array as _array
import os
from operator import index as to_int

from .errors import DoubleFree, InvalidFree, InvalidLayout, InvalidPage, OutOfMemory

cdef extern from "Python.h":
    size_t PyLong_AsSize_t(object number) except? <size_t>-1
    Py_ssize_t PyNumber_AsSsize_t(object number, void *overflow) except? -1  # with NULL, what is too large is the largest

cdef array.array _addresses = _array.array("Q")


@cython.final
@cython.freelist(16)
cdef class Layout:
    """What an object needs: `size` bytes at an address that is a multiple of `align`, a power of two.

    Frozen and hashable. Made by `from_size_align` and `for_dtype`.

    >>> Layout.from_size_align(64, 8)
    Layout(size=64, align=8)
    >>> Layout.for_dtype("d", (3, 4))
    Layout(size=96, align=8)
    """

    cdef readonly size_t size
    cdef readonly size_t align

    def __init__(self, size, align):
        if not 0 < size <= SIZE_MAX // 2:
            raise InvalidLayout(f"size {size} is not positive, or beyond any memory")
        if not 0 < align <= SIZE_MAX // 2 or align & (align - 1):
            raise InvalidLayout(f"alignment {align} is not a power of two")
        self.size = size
        self.align = align

    @classmethod
    def from_size_align(cls, size, align):
        """The layout of `size` bytes aligned to `align`, both ints; InvalidLayout if there is none."""
        return cls(to_int(size), to_int(align))

    @classmethod
    def for_dtype(cls, dtype, shape=()):
        """The layout of an array: a typecode of `array`, or whatever `numpy.dtype` takes; `shape` (an int or a tuple of
        them) counts items."""
        from .reference import Layout as plain

        layout = plain.for_dtype(dtype, shape)
        return cls(layout.size, layout.align)

    def __eq__(self, other):
        return isinstance(other, Layout) and self.size == (<Layout>other).size and self.align == (<Layout>other).align

    def __hash__(self):
        return hash((self.size, self.align))

    def __repr__(self):
        return f"Layout(size={self.size}, align={self.align})"

    def __reduce__(self):
        return Layout.from_size_align, (self.size, self.align)


@cython.no_gc_clear  # buffers that outlive the zone's own end need its pages and its pager
cdef class Zone:
    """The native half of both allocators: subclasses supply `_refill_dry(layout)`, which refills the class of a layout or
    raises, and `close`."""

    cdef slabmalloc_zone *zone
    cdef size_t buffers
    cdef bint ends_with_buffers  # the zone itself is gone: the last buffer closes it
    cdef object __weakref__
    cdef public object pager
    # A dict of pages by address, hidden from the cycle collector, which would take apart what buffers still look into.
    cdef PyObject *pages

    def _create(self, sizes, size_t base_page_bytes, size_t large_page_bytes, size_t max_base_bytes):
        cdef slabmalloc_zone_options options = slabmalloc_zone_options_default()
        options.unowned = True
        options.classes.count = len(sizes)
        options.classes.base_page_bytes = base_page_bytes
        options.classes.large_page_bytes = large_page_bytes
        options.classes.max_base_bytes = max_base_bytes
        for index, size in enumerate(sizes):
            options.classes.sizes[index] = size
        pages = {}
        Py_INCREF(pages)
        self.pages = <PyObject *>pages
        self.zone = slabmalloc_zone_create(&options)
        if self.zone is NULL:
            raise OutOfMemory(f"no memory for the bookkeeping of a zone of {len(sizes)} size classes")

    def __dealloc__(self):
        if self.zone is not NULL:
            slabmalloc_zone_detach(self.zone, NULL, NULL)
        Py_XDECREF(self.pages)

    @property
    def _pages(self):
        """The pages by address."""
        return <object>self.pages if self.pages is not NULL else {}

    cdef slabmalloc_zone *open_zone(self) except NULL:
        if self.zone is NULL:
            raise ValueError(f"this {type(self).__name__} is closed")
        return self.zone

    # ---- objects ----

    def allocate(self, Layout layout not None):
        """Address of an object of this layout; its contents are whatever was there before.

        Raises InvalidLayout if no size class serves the layout, OutOfMemory if no slot is free and no page comes, and
        what the pager raises.
        """
        cdef void *pointer = NULL
        if self.zone is not NULL:
            pointer = slabmalloc_zone_allocate(self.zone, layout.size, layout.align)
        if pointer is NULL:
            pointer = self.allocate_dry(layout)
        return <uintptr_t>pointer

    cdef void *allocate_dry(self, Layout layout) except NULL:
        cdef void *pointer = NULL
        while pointer is NULL:
            self.class_of(layout)
            self._refill_dry(layout)
            pointer = slabmalloc_zone_allocate(self.open_zone(), layout.size, layout.align)
        return pointer

    def deallocate(self, address, Layout layout not None):
        """Gives back what `allocate` returned, by a layout of the same size class.

        Raises InvalidFree if the address is not that of an object of this class, DoubleFree if it is free already; the
        zone is as before.
        """
        cdef size_t number
        cdef slabmalloc_status status
        try:
            number = PyLong_AsSize_t(address)
        except (TypeError, OverflowError):
            number = self.address_slow(address)
        status = slabmalloc_zone_deallocate_owned(self.open_zone(), <void *>number, layout.size, layout.align)
        if status != SLABMALLOC_OK:
            raise self.free_error(status, number, layout)

    cdef size_t address_slow(self, address) except? <size_t>-1:
        """An address that is no plain int, or no address."""
        number = address.__index__() if hasattr(address, "__index__") else None
        if number is None:
            raise TypeError(f"an address is an int, not {type(address).__name__}")
        if not 0 <= number <= SIZE_MAX:
            raise InvalidFree(f"{number:#x} is on no page of {self!r}")
        return number

    def allocate_many(self, Layout layout not None, Py_ssize_t n):
        """Addresses of `n` objects as an ``array('Q')``, in the order of that many calls of `allocate`.

        All of them, or an error (as of `allocate`; ValueError for a negative `n`) and none.
        """
        cdef array.array addresses
        cdef size_t done = 0
        if n < 0:
            raise ValueError(f"can't allocate {n} objects")
        self.class_of(layout)
        addresses = array.clone(_addresses, n, False)
        try:
            while True:
                done += slabmalloc_zone_allocate_many(self.open_zone(), layout.size, layout.align,
                                                      <void **>addresses.data.as_voidptr + done, n - done)
                if done == <size_t>n:
                    return addresses
                self._refill_dry(layout)
        except BaseException:
            if self.zone is not NULL:
                slabmalloc_zone_deallocate_many(self.zone, <void **>addresses.data.as_voidptr, done, layout.size,
                                                layout.align, NULL)
            raise

    def deallocate_many(self, addresses, Layout layout not None):
        """Gives back all of `addresses` (ints in any iterable, or a buffer of unsigned 64-bit words), or none.

        Raises InvalidFree or DoubleFree, whose text names the first address at fault and its index.
        """
        cdef Py_buffer view
        cdef array.array words
        cdef size_t bad = 0, count
        cdef slabmalloc_status status
        self.class_of(layout)
        words = addresses if isinstance(addresses, array.array) and addresses.typecode == "Q" else self.words_of(addresses)
        PyObject_GetBuffer(words, &view, PyBUF_CONTIG)
        try:
            count = view.len // sizeof(uint64_t)
            status = slabmalloc_zone_deallocate_many(self.open_zone(), <void **>view.buf, count, layout.size, layout.align, &bad)
        finally:
            PyBuffer_Release(&view)
        if status != SLABMALLOC_OK:
            error = self.free_error(status, words[bad], layout)
            raise type(error)(f"addresses[{bad}]: {error}")

    cdef array.array words_of(self, addresses):
        try:
            view = memoryview(addresses)
        except TypeError:
            return _array.array("Q", [self.address_slow(address) for address in addresses])
        if view.format in ("Q", "L", "N", "P") and view.itemsize == 8:
            return _array.array("Q", view.tobytes())
        return _array.array("Q", [self.address_slow(address) for address in view.tolist()])

    cdef int class_of(self, Layout layout) except -1:
        cdef int index = slabmalloc_zone_class_of(self.open_zone(), layout.size, layout.align)
        cdef const slabmalloc_size_classes *classes
        if index < 0:
            classes = slabmalloc_zone_classes(self.zone)
            raise InvalidLayout(f"no size class serves {layout.size} bytes aligned to {layout.align}: "
                                f"the largest is {classes.sizes[classes.count - 1]} bytes")
        return index

    def _class_bytes(self, Layout layout not None):
        """The size class of a layout, in bytes; InvalidLayout."""
        return slabmalloc_zone_classes(self.zone).sizes[self.class_of(layout)] if self.class_of(layout) >= 0 else 0

    cdef object free_error(self, slabmalloc_status status, size_t address, Layout layout):
        cdef slabmalloc_slot_info slot = slabmalloc_zone_inspect(self.zone, <void *>address)
        page = f"the page at {<uintptr_t>slot.page:#x}"
        if status == SLABMALLOC_INVALID_LAYOUT:
            try:
                self.class_of(layout)
            except InvalidLayout as error:
                return error
        if status == SLABMALLOC_FREE_FOREIGN:
            return InvalidFree(f"{address:#x} is on no page of {self!r}")
        if status == SLABMALLOC_FREE_WRONG_CLASS:
            return InvalidFree(f"{address:#x} is an object of {slot.object_bytes} bytes, "
                               f"not of {self._class_bytes(layout)}, the class of {layout}")
        if status == SLABMALLOC_FREE_DOUBLE:
            return DoubleFree(f"{address:#x} is free already: slot {slot.slot_index} of {page}")
        if slot.slot_index == slot.capacity:
            return InvalidFree(f"{address:#x} is behind the last of {slot.capacity} slots, in the end of {page}")
        return InvalidFree(f"{address:#x} is {address - <uintptr_t>slot.object} bytes into slot {slot.slot_index} of {page}, "
                           f"which begins at {<uintptr_t>slot.object:#x}")

    def buffer(self, nbytes, align=16):
        """`nbytes` bytes of this zone as a `Buffer`, aligned to `align`, freed when nobody uses it any more.

        Raises as `allocate` does.
        """
        cdef void *pointer = NULL
        cdef Py_ssize_t size = PyNumber_AsSsize_t(nbytes, NULL), alignment = PyNumber_AsSsize_t(align, NULL)
        if self.zone is not NULL and size > 0 and alignment > 0:
            pointer = slabmalloc_zone_allocate(self.zone, size, alignment)
        if pointer is NULL:
            pointer = self.allocate_dry(Layout.from_size_align(nbytes, align))
        cdef Buffer buffer = Buffer.__new__(Buffer)
        buffer.zone = self
        buffer.pointer = pointer
        buffer.size = size
        buffer.align = alignment
        self.buffers += 1
        return buffer

    # ---- pages ----

    def _page_status(self, slabmalloc_status status):
        if status == SLABMALLOC_OUT_OF_MEMORY:
            raise OutOfMemory("the system has no memory for the zone's bookkeeping")
        if status != SLABMALLOC_OK:
            raise InvalidPage((<bytes>slabmalloc_status_text(status)).decode())

    def _refill_at(self, Layout layout not None, uintptr_t address, size_t page_bytes):
        """The page at `address` joins the class of the layout."""
        self.class_of(layout)
        self._page_status(slabmalloc_zone_refill(self.zone, layout.size, layout.align, <void *>address, page_bytes))

    def _restore_at(self, uintptr_t address, size_t page_bytes):
        """The page at `address`, which carries a slab, joins its class."""
        self._page_status(slabmalloc_zone_restore(self.open_zone(), <void *>address, page_bytes))

    def _reclaim_one(self, size_t page_bytes):
        """Address of a page of this size that was empty and has left the zone; None if there is none."""
        cdef uintptr_t address = 0
        slabmalloc_zone_reclaim(self.open_zone(), -1, page_bytes, 1, _note_page, &address)
        return address or None

    def _detach(self):
        """The end of the zone: addresses of its pages, each with the number of objects that still live there."""
        cdef slabmalloc_zone *zone = self.zone
        pages = []
        if zone is not NULL:
            if self.buffers:
                raise BufferError(f"{self.buffers} buffers still use the memory of {self!r}")
            self.zone = NULL
            slabmalloc_zone_detach(zone, _note_detached, <void *>pages)
        return pages

    def __del__(self):
        """Nobody has the zone any more. Buffers may: in one cycle with it, from which a finaliser can still save them."""
        if self.buffers:
            self.ends_with_buffers = True
        elif self.zone is not NULL:
            self.close()

    # ---- what is there ----

    def _class_stats(self, int index):
        """The fields of `slabmalloc_class_stats` of one class, by name; of the sum for index -1."""
        return slabmalloc_zone_stats(self.open_zone(), index)

    @property
    def bookkeeping_bytes(self):
        """Memory that the zone holds outside its pages, in bytes."""
        return slabmalloc_zone_bookkeeping_bytes(self.open_zone())

    @property
    def closed(self):
        """True once the zone has given its pages back."""
        return self.zone is NULL

    def collect(self):
        """Takes over the objects that others freed without the interpreter lock; returns how many."""
        return slabmalloc_zone_collect(self.open_zone())

    def audit(self):
        """Examines every invariant; RuntimeError, which names the first that does not hold."""
        cdef const char *fault = slabmalloc_zone_audit(self.open_zone())
        if fault is not NULL:
            raise RuntimeError(f"{self!r} is corrupt: {fault.decode()}")

    def inspect(self, address):
        """What is at `address`: page, page_bytes, object_bytes, slot_index, capacity, object (its slot's address) and
        is_live, by name; None if the address is on no page of this zone."""
        cdef slabmalloc_slot_info slot = slabmalloc_zone_inspect(self.open_zone(), <void *><uintptr_t>self.address_slow(address))
        if slot.page is NULL:
            return None
        return {"page": <uintptr_t>slot.page, "page_bytes": slot.page_bytes, "object_bytes": slot.object_bytes,
                "slot_index": slot.slot_index, "capacity": slot.capacity, "object": <uintptr_t>slot.object,
                "is_live": slot.is_live}

    @property
    def handle(self):
        """Address of the zone, for C code; see `c_functions`."""
        return <uintptr_t>self.open_zone()


cdef void _note_page(void *context, void *page, size_t page_bytes) noexcept nogil:
    (<uintptr_t *>context)[0] = <uintptr_t>page


cdef void _note_detached(void *context, void *page, size_t page_bytes, size_t live) noexcept with gil:
    (<list>context).append((<uintptr_t>page, live))


@cython.final
@cython.freelist(64)
@cython.no_gc_clear  # the zone is needed to the last; a cycle through it is cut elsewhere
cdef class Buffer:
    """A block of a zone's memory: writable bytes, without a copy, that are freed when nobody uses them any more.

    Supports the buffer protocol (memoryview, NumPy, struct, sockets), DLPack and ``__array_interface__``. Made by
    ``zone.buffer(nbytes, align)``; keeps its zone. Used in a ``with`` statement it is released at the end.

    >>> import slabmalloc
    >>> zone = slabmalloc.ZoneAllocator(slabmalloc.MmapPager())
    >>> with zone.buffer(5) as buffer:
    ...     memoryview(buffer)[:] = b"hello"
    ...     bytes(buffer), len(buffer)
    (b'hello', 5)
    """

    cdef Zone zone
    cdef void *pointer  # NULL: released
    cdef Py_ssize_t size, align, exports
    cdef bint is_pinned  # someone has the bare address

    def __init__(self):
        raise TypeError("buffers are made by ZoneAllocator.buffer")

    def __dealloc__(self):
        if self.pointer is not NULL:
            self.give_back()

    cdef int give_back(self) except -1:
        cdef void *pointer = self.pointer
        self.pointer = NULL
        self.zone.buffers -= 1
        cdef slabmalloc_status status = slabmalloc_zone_deallocate_owned(self.zone.zone, pointer, self.size, self.align)
        if status != SLABMALLOC_OK:  # someone freed the address behind the buffer's back
            raise self.zone.free_error(status, <uintptr_t>pointer, Layout(self.size, self.align))
        if self.zone.ends_with_buffers and self.zone.buffers == 0:
            try:
                self.zone.close()
            except Exception:  # the pager was in the same cycle, and has been taken apart: it needs its pages no more
                pass
        return 0

    cdef int check_open(self) except -1:
        if self.pointer is NULL:
            raise ValueError("this buffer is released")
        return 0

    def release(self):
        """Frees the memory now. Releasing twice is fine.

        Raises BufferError, and frees nothing, while a memoryview, an array or a DLPack tensor looks into it, or once its
        bare address went out by ``__array_interface__``; then the memory is freed when the buffer is gone.
        """
        if self.exports:
            raise BufferError(f"{self.exports} views still look into this buffer")
        if self.is_pinned:
            raise BufferError("the address of this buffer went out by __array_interface__: drop it instead")
        if self.pointer is not NULL:
            self.give_back()

    def __enter__(self):
        self.check_open()
        return self

    def __exit__(self, *error):
        self.release()

    @property
    def address(self):
        """Address of the first byte."""
        self.check_open()
        return <uintptr_t>self.pointer

    @property
    def nbytes(self):
        """Length in bytes."""
        return self.size

    @property
    def released(self):
        """True once the memory is freed."""
        return self.pointer is NULL

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer *view, int flags):
        self.check_open()
        PyBuffer_FillInfo(view, self, self.pointer, self.size, False, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.exports -= 1

    @property
    def __array_interface__(self):
        """NumPy's array interface, version 3: bytes, one dimension, writable."""
        self.check_open()
        self.is_pinned = True
        return {"version": 3, "shape": (self.size,), "typestr": "|u1", "data": (<uintptr_t>self.pointer, False)}

    def __dlpack_device__(self):
        """(1, 0): the CPU."""
        return (1, 0)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        """A DLPack capsule: unsigned bytes, one dimension. BufferError for another device, or if a copy is asked for."""
        if stream is not None:
            raise BufferError(f"memory of the CPU has no stream: stream={stream!r}")
        if dl_device is not None and tuple(dl_device) != (1, 0):
            raise BufferError(f"this buffer is on device (1, 0), the CPU, not on {tuple(dl_device)}")
        if copy:
            raise BufferError("a buffer shows its memory and makes no copy: copy=True")
        self.check_open()
        # The view counts as an export, so that the memory outlives the tensor.
        return dlpack_capsule(memoryview(self), self.pointer, self.size, max_version is not None and max_version[0] >= 1)

    def __repr__(self):
        if self.pointer is NULL:
            return f"<Buffer of {self.size} bytes, released>"
        return f"<Buffer of {self.size} bytes at {<uintptr_t>self.pointer:#x}, {self.exports} views>"


include "_mapping.pxi"


def c_functions():
    """Addresses of the core's functions that any thread may call without the interpreter lock, by name.

    ``deallocate``: ``slabmalloc_status (*)(zone, object, size_t size, size_t align)``; `zone` is ``ZoneAllocator.handle``.
    """
    return {"deallocate": <uintptr_t>&slabmalloc_zone_deallocate}
