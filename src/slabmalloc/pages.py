# SPDX-License-Identifier: MIT
"""Pages: power-of-two blocks of a client's memory, aligned to their size (floor 5).

A `Page` makes a promise about memory and keeps it: so many bytes, writable, aligned, and there for as long as the page
lives, because the page holds an export of the buffer below it. It knows whether an allocator has it now, so that no
two allocators take the same one. It does not know what an allocator writes into it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, ClassVar

from .errors import InvalidPage

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["LargeObjectPage", "ObjectPage", "Page", "address_of", "page_type"]

MIN_PAGE_BYTES = 4096
MAX_PAGE_BYTES = 1 << 30


try:
    from ._native import address_of
except ImportError:

    def address_of(buffer: Buffer) -> int:
        """Address of the first byte of a writable, C-contiguous buffer of at least one byte."""
        import ctypes  # only who makes pages pays for its import

        return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


class Page:
    """`SIZE` bytes of `buffer` from `offset` on, aligned to `SIZE`; abstract: use a subclass.

    buffer: anything with a writable, C-contiguous buffer (bytearray, mmap, shared memory, NumPy array, ctypes array).
            It stays exported while the page lives, so it can be neither resized nor closed.
    offset: in bytes.

    Raises InvalidPage if the memory is read-only, strided, too small or misaligned; the message names the remedy.

    >>> import mmap
    >>> page = ObjectPage(mmap.mmap(-1, 8192), offset=4096)
    >>> page.size, page.address % 4096, page.in_use
    (4096, 0, False)
    """

    SIZE: ClassVar[int]

    __slots__ = ("__weakref__", "_address", "_memory", "_owner")

    def __init_subclass__(cls) -> None:
        if not MIN_PAGE_BYTES <= cls.SIZE <= MAX_PAGE_BYTES or cls.SIZE & (cls.SIZE - 1):
            raise ValueError(f"a page has a power-of-two size from 4 KiB to 1 GiB, not {cls.SIZE} bytes")

    def __init__(self, buffer: Buffer, offset: int = 0) -> None:
        if type(self) is Page:
            raise TypeError("Page is abstract: use ObjectPage, LargeObjectPage or page_type(size)")
        self._memory = _window(buffer, offset, self.SIZE, type(self).__name__)
        self._address = address_of(self._memory)
        self._owner: str | None = None
        if self._address % self.SIZE:
            room = memoryview(buffer).nbytes
            raise InvalidPage(_misaligned(self._address, offset, self.SIZE, room, type(self).__name__))

    @property
    def address(self) -> int:
        """Address of the first byte, a multiple of `SIZE`."""
        return self._address

    @property
    def size(self) -> int:
        """Bytes of this page: its type's `SIZE`."""
        return self.SIZE

    @property
    def buffer(self) -> memoryview:
        """The page's bytes, writable, format ``B``; a new view each time, which may be released at will."""
        return self._memory[:]

    @property
    def in_use(self) -> bool:
        """True while an allocator has the page."""
        return self._owner is not None

    def _take(self, owner: object) -> None:
        """An allocator takes the page; InvalidPage, which names the taker before, if it is taken."""
        if self._owner is not None:
            raise InvalidPage(f"{self!r} can't be taken twice: reclaim it from there first")
        # The name, not the object: a page must not keep its allocator alive, which keeps the page.
        self._owner = f"{type(owner).__name__} at {id(owner):#x}"

    def _give_back(self) -> None:
        """The allocator that took the page has let go of it."""
        self._owner = None

    def __repr__(self) -> str:
        state = f"in use by {self._owner}" if self._owner else "free"
        return f"<{type(self).__name__} of {readable_bytes(self.SIZE)} at {self._address:#x}, {state}>"


def _window(buffer: Buffer, offset: int, size: int, name: str) -> memoryview:
    """`size` bytes of `buffer` from `offset` on, or InvalidPage."""
    view = memoryview(buffer)
    if view.readonly:
        raise InvalidPage(f"{name} needs writable memory: this {type(buffer).__name__} is read-only")
    if not view.c_contiguous:
        raise InvalidPage(f"{name} needs C-contiguous memory: this {type(buffer).__name__} is strided")
    if offset < 0:
        raise InvalidPage(f"{name} can't start before its buffer: offset {offset} is negative")
    if view.nbytes < offset + size:
        raise InvalidPage(
            f"{name} needs {size} bytes from offset {offset} on: this {type(buffer).__name__} has "
            f"{max(0, view.nbytes - offset)} there; pass a buffer of at least {offset + size} bytes"
        )
    return _as_bytes(view)[offset : offset + size]


def _as_bytes(view: memoryview) -> memoryview:
    """The same memory, one byte per item, format ``B``."""
    try:
        return view.cast("B")
    except (TypeError, ValueError):  # a record has no cast; ctypes sees through to its bytes
        import ctypes

        return memoryview((ctypes.c_char * view.nbytes).from_buffer(view)).cast("B")


def _misaligned(address: int, offset: int, size: int, room: int, name: str) -> str:
    """What to say of `address`, `offset` bytes into a buffer of `room` bytes, where it is no multiple of `size`."""
    excess = address % size
    better = offset - excess + size
    fitting = [start for start in (better, better - size) if 0 <= start <= room - size]
    remedy = (
        f"pass offset={fitting[0]}" if fitting else f"pass a buffer of {better + size} bytes and its aligned offset"
    )
    return f"{name} needs an address that is a multiple of {size}: {address:#x} is {excess} bytes past one; {remedy}"


class ObjectPage(Page):
    """A page of 4 KiB, for the small size classes; a hardware page of most machines."""

    SIZE: ClassVar[int] = 4096
    __slots__ = ()


class LargeObjectPage(Page):
    """A page of 2 MiB, for the large size classes; a huge page of most machines."""

    SIZE: ClassVar[int] = 2 * 1024 * 1024
    __slots__ = ()


@cache
def page_type(size: int) -> type[Page]:
    """The page type of `size` bytes, a power of two from 4 KiB to 1 GiB; the same type for the same size.

    Raises ValueError for any other size.

    >>> page_type(4096) is ObjectPage, page_type(65536).SIZE
    (True, 65536)
    """
    for known in (ObjectPage, LargeObjectPage):
        if size == known.SIZE:
            return known
    return type(f"Page{readable_bytes(size).replace(' ', '')}", (Page,), {"SIZE": size, "__slots__": ()})


def readable_bytes(count: int) -> str:
    """`count` bytes in the largest unit that divides it.

    >>> readable_bytes(4096), readable_bytes(2 << 20), readable_bytes(100)
    ('4 KiB', '2 MiB', '100 B')
    """
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count and not count % (1 << shift):
            return f"{count >> shift} {unit}"
    return f"{count} B"
