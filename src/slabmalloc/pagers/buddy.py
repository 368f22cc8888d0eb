# SPDX-License-Identifier: MIT
"""Which blocks of a range are free, by the buddy system (floor 5).

Blocks are powers of two, aligned to their size; two free halves of a block are always that block again. So a block of
some size can be had exactly if an aligned run of that size is free: no history of smaller blocks hides it. Holds
numbers only (addresses, or offsets in a segment), and touches no memory.

Invariants: free blocks do not overlap; of two buddies at most one is free; every free block is in the heap of its size
(the heaps may hold stale positions as well, which are dropped when met).
"""

from __future__ import annotations

from heapq import heappop, heappush

__all__ = ["BuddyRange"]


class BuddyRange:
    """Free blocks of `unit` bytes to `largest` bytes; empty at first.

    >>> free = BuddyRange(unit=4096, largest=1 << 30)
    >>> free.add(4096, 65536)
    >>> free.take(32768), free.take(4096), free.take(32768), free.free_bytes
    (32768, 4096, None, 24576)
    """

    def __init__(self, unit: int, largest: int) -> None:
        self._unit = unit
        self._largest = largest
        self._size_at: dict[int, int] = {}  # position of each free block -> its size
        self._heaps: dict[int, list[int]] = {}  # size -> positions
        size = unit
        while size <= largest:
            self._heaps[size] = []
            size <<= 1
        self.free_bytes = 0

    def add(self, start: int, end: int) -> None:
        """The units inside [start, end) are free from now on; they were not in the range before."""
        start = -(-start // self._unit) * self._unit
        while start + self._unit <= end:
            alignment = start & -start or self._largest
            size = min(alignment, 1 << (end - start).bit_length() - 1, self._largest)
            self.give(start, size)
            start += size

    def take(self, size: int) -> int | None:
        """Position of a block of `size` bytes, cut from the lowest of the smallest blocks that serve; or None."""
        found = size
        while found <= self._largest:
            heap = self._heaps[found]
            while heap:
                position = heappop(heap)
                if self._size_at.get(position) == found:
                    del self._size_at[position]
                    self.free_bytes -= size
                    while found > size:
                        found >>= 1
                        self._size_at[position + found] = found
                        heappush(self._heaps[found], position + found)
                    return position
            found <<= 1
        return None

    def give(self, position: int, size: int) -> None:
        """The block is free again, and one with its buddy if that is free."""
        self.free_bytes += size
        while size < self._largest and self._size_at.get(position ^ size) == size:
            del self._size_at[position ^ size]
            position &= ~size
            size <<= 1
        self._size_at[position] = size
        heappush(self._heaps[size], position)

    def largest_free(self) -> int:
        """Size of the largest block that `take` would serve; 0 if none. O(free blocks)."""
        return max(self._size_at.values(), default=0)
