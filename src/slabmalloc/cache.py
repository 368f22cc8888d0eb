# SPDX-License-Identifier: MIT
"""A cache of constructed objects over a zone (floor 5).

J. Bonwick, "The Slab Allocator: An Object-Caching Kernel Memory Allocator" (USENIX Summer 1994): what is costly to set
up should be set up once. A freed object keeps its constructed state and waits, and is taken apart only when its memory
is to go back. To the zone every object of the cache is live; the cache knows which of them wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import DoubleFree, InvalidFree

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from ._native import Layout
    from .zone import ZoneAllocator

__all__ = ["ObjectCache"]


class ObjectCache:
    """Objects of one layout in `zone`, constructed when a slot is first used and destructed when it is given back.

    constructor, destructor: called with the address of the object; None: nothing is to be done.

    >>> import slabmalloc
    >>> zone = slabmalloc.ZoneAllocator(slabmalloc.MmapPager())
    >>> made = []
    >>> cache = ObjectCache(zone, slabmalloc.Layout.from_size_align(64, 8), constructor=made.append)
    >>> first = cache.allocate()
    >>> cache.deallocate(first)
    >>> cache.allocate() == first, len(made)
    (True, 1)
    """

    def __init__(
        self,
        zone: ZoneAllocator,
        layout: Layout,
        constructor: Callable[[int], object] | None = None,
        destructor: Callable[[int], object] | None = None,
    ) -> None:
        self.zone = zone
        self.layout = layout
        self.constructor = constructor
        self.destructor = destructor
        self._live: set[int] = set()
        self._idle: dict[int, None] = {}  # a stack: the object freed last is the warmest

    @property
    def live_objects(self) -> int:
        """Objects handed out and not given back."""
        return len(self._live)

    @property
    def idle_objects(self) -> int:
        """Constructed objects that wait for their next use."""
        return len(self._idle)

    def allocate(self) -> int:
        """Address of a constructed object.

        Raises what `zone.allocate` and the constructor raise; then nothing is allocated.
        """
        if self._idle:
            address = self._idle.popitem()[0]
        else:
            address = self.zone.allocate(self.layout)
            if self.constructor is not None:
                try:
                    self.constructor(address)
                except BaseException:
                    self.zone.deallocate(address, self.layout)
                    raise
        self._live.add(address)
        return address

    def deallocate(self, address: int) -> None:
        """Gives an object back, which stays constructed. InvalidFree, DoubleFree: it is not one of the live ones."""
        if address not in self._live:
            if address in self._idle:
                raise DoubleFree(f"{address:#x} is free already: it waits in {self!r}")
            raise InvalidFree(f"{address:#x} is no object of {self!r}")
        self._live.remove(address)
        self._idle[address] = None

    def reclaim(self) -> int:
        """Destructs every idle object and gives its slot back to the zone; returns how many.

        If the destructor raises, that object's slot has gone back, and those behind it still wait.
        """
        count = 0
        while self._idle:
            address = self._idle.popitem()[0]
            try:
                if self.destructor is not None:
                    self.destructor(address)
            finally:
                self.zone.deallocate(address, self.layout)
            count += 1
        return count

    def close(self) -> None:
        """Gives every object back. BufferError, and nothing changes, while objects are live."""
        if self._live:
            raise BufferError(f"{len(self._live)} objects of {self!r} are live: give them back first")
        self.reclaim()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_idle") and not getattr(self.zone, "closed", False):
            self.reclaim()

    def __repr__(self) -> str:
        return f"<ObjectCache of {self.layout}: {len(self._live)} live, {len(self._idle)} idle>"
