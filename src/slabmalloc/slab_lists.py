# SPDX-License-Identifier: MIT
"""All slabs of one size class, and the rule which of them serves (floor 5; what core/slab and core/zone do natively).

`Slab` is a page under a bitmap. `SizeClassLists` keeps slabs by how full they are. Invariants, which `faults` examines:
a slab is current or on the list of its `fullness`; `free` is the number of members of `local`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import InvalidPage
from .slab_format import TRAILER, Bitset, carried_by, slab_geometry, trailer_of
from .zone_stats import ClassStats

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .pages import Page

__all__ = ["SizeClassLists", "Slab"]

# Lists of slabs by how many slots are free: bands of partial slabs, the fullest quarter in band 0, the emptiest in 3.
BANDS = 4
EMPTY = BANDS
FULL = BANDS + 1


class Slab:
    """A page formatted for one size class; slot i lies i objects behind the page's address.

    `local` is the set of free slots. `remote`, slots freed by other threads, is used by the native form alone.
    """

    def __init__(self, page: Page, object_bytes: int) -> None:
        self.page = page
        self.object_bytes = object_bytes
        self.capacity, metadata, _ = slab_geometry(object_bytes, page.SIZE)
        words = page.buffer[-metadata : -TRAILER.size].cast("Q")
        self.local = Bitset(words[: len(words) // 2], self.capacity)
        self.remote = Bitset(words[len(words) // 2 :], self.capacity)
        self.free = 0  # members of local
        self.on_list = FULL

    def format(self) -> None:
        """Every slot becomes free."""
        self.local.assign((1 << self.capacity) - 1)
        self.remote.assign(0)
        self.free = self.capacity
        self.page.buffer[-TRAILER.size :] = trailer_of(self.object_bytes, self.capacity, self.page.SIZE)

    def restore(self) -> None:
        """The slots are as the page says; InvalidPage if what it says can't be true."""
        local, remote = self.local.to_int(), self.remote.to_int()
        if local & remote or (local | remote) >> self.capacity:
            raise InvalidPage(f"{self.page!r} carries a torn slab: its bitmaps contradict each other")
        self.local.assign(local | remote)
        self.remote.assign(0)
        self.free = (local | remote).bit_count()

    def allocate(self) -> int:
        """Address of the lowest free slot, which is free no more."""
        slot = self.local.lowest()
        self.local.remove(slot)
        self.free -= 1
        return self.page.address + slot * self.object_bytes

    @property
    def live(self) -> int:
        """Objects in use."""
        return self.capacity - self.free

    @property
    def fullness(self) -> int:
        """The list where the slab belongs."""
        if self.free in (0, self.capacity):
            return EMPTY if self.free else FULL
        return (self.free * BANDS - 1) // self.capacity


class SizeClassLists:
    """All slabs of one size class.

    Objects come from the `current` slab, lowest slot first, until it has none. The next is the front of the first band
    that has one, else the front of the empty slabs: full slabs are filled up, sparse ones drain. A slab joins its band
    at the back, where it gathers frees until its turn comes; empty slabs join at the front, for they are warm.
    """

    def __init__(self, object_bytes: int, page: type[Page]) -> None:
        self.object_bytes = object_bytes
        self.page = page
        self.current: Slab | None = None
        self.lists: list[dict[Slab, None]] = [{} for _ in range(BANDS + 2)]
        self.pages_taken = 0
        self.pages_returned = 0

    def add(self, slab: Slab) -> None:
        """To the end of the list where it belongs: the back of a band, the front of the empty slabs."""
        slab.on_list = slab.fullness
        self.lists[slab.on_list][slab] = None

    def front(self) -> Slab | None:
        """The slab to be used next, if the current one has no free slot."""
        for band in self.lists[:BANDS]:
            if band:
                return next(iter(band))
        return next(reversed(self.lists[EMPTY]), None)

    def allocate(self) -> int | None:
        """An address, or None if no slot is free: then the current slab stays, a free may make it useful again."""
        if self.current is None or not self.current.free:
            chosen = self.front()
            if chosen is None:
                return None
            del self.lists[chosen.on_list][chosen]
            if self.current is not None:
                self.add(self.current)
            self.current = chosen
        return self.current.allocate()

    def deallocate(self, slab: Slab, slot: int) -> None:
        """The slot becomes free, and the slab moves if it belongs on another list now. The current slab is on none."""
        slab.local.add(slot)
        slab.free += 1
        if slab is not self.current and slab.on_list != slab.fullness:
            del self.lists[slab.on_list][slab]
            self.add(slab)

    def remove_empty(self) -> Slab | None:
        """An empty slab leaves, the current one last; None if there is none."""
        if self.lists[EMPTY]:
            return self.lists[EMPTY].popitem()[0]
        slab = self.current
        if slab is None or slab.live:
            return None
        self.current = None
        return slab

    def __iter__(self) -> Iterator[Slab]:
        if self.current is not None:
            yield self.current
        for slabs in self.lists:
            yield from reversed(slabs)

    def stats(self) -> ClassStats:
        """What every byte of every page is used for."""
        capacity, metadata, tail = slab_geometry(self.object_bytes, self.page.SIZE)
        kinds = [slab.fullness for slab in self]
        used = [slab for slab in self if slab.live]
        live = sum(slab.live for slab in used)
        return ClassStats(
            object_bytes=self.object_bytes,
            page_bytes=self.page.SIZE,
            capacity=capacity,
            empty_pages=kinds.count(EMPTY),
            partial_pages=sum(kind < BANDS for kind in kinds),
            full_pages=kinds.count(FULL),
            live_objects=live,
            live_bytes=live * self.object_bytes,
            free_bytes=sum(slab.free for slab in used) * self.object_bytes,
            metadata_bytes=metadata * len(used),
            tail_bytes=tail * len(used),
            empty_bytes=kinds.count(EMPTY) * self.page.SIZE,
            mapped_bytes=(self.pages_taken - self.pages_returned) * self.page.SIZE,
            pages_taken=self.pages_taken,
            pages_returned=self.pages_returned,
        )

    def faults(self) -> Iterator[str]:
        """Each invariant that does not hold."""
        for slab in self:
            members = slab.local.to_int()
            invariants = {
                "on the list of its fullness": slab is self.current or slab in self.lists[slab.fullness],
                "of its list's class": slab.object_bytes == self.object_bytes and isinstance(slab.page, self.page),
                "as free as its bitmap says": slab.free == members.bit_count() and not members >> slab.capacity,
                "summed up in its bitmap": slab.local.summaries_hold(),
                "described by its trailer": carried_by(slab.page) == (slab.object_bytes, slab.capacity),
                "marked as in use": slab.page.in_use,
            }
            yield from (f"{slab.page!r} is not {invariant}" for invariant, holds in invariants.items() if not holds)
