# SPDX-License-Identifier: MIT
"""What lies in a page that carries a slab: its geometry, bitsets and trailer (floor 5; the same as core/slab writes).

    [ objects | tail | local bitset | remote bitset | trailer ]

No pointer is among it, so a page may lie in a file or in shared memory and be taken up again by whoever finds it there.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .pages import Page

__all__ = ["Bitset", "SlabGeometry", "carried_by", "slab_geometry", "trailer_of", "wipe"]

WORD_BITS = 64
ALL_ONES = 2**64 - 1
TRAILER = Struct("=QIIIIQ")
MAGIC = int.from_bytes(b"slabmal1", "little")
GOLDEN = 0x9E3779B97F4A7C15


class SlabGeometry(NamedTuple):
    """How a page is shared out: ``capacity * object + metadata + tail = page``, in bytes but for `capacity`."""

    capacity: int
    """Slots."""
    metadata: int
    """Two bitsets of `capacity` bits and the trailer, at the page's end."""
    tail: int
    """What is left between the last slot and the meta-data."""


@cache
def slab_geometry(object_bytes: int, page_bytes: int) -> SlabGeometry:
    """The most slots of `object_bytes` that fit on a page beside the meta-data that they need; 0 slots if none fits.

    >>> slab_geometry(512, 2 << 20)
    SlabGeometry(capacity=4093, metadata=1072, tail=464)
    """

    def needed(capacity: int) -> int:
        return capacity * object_bytes + metadata_bytes(capacity)

    capacity = bisect_right(range(1, page_bytes // object_bytes + 1), page_bytes, key=needed)
    return SlabGeometry(capacity, metadata_bytes(capacity), page_bytes - needed(capacity))


def metadata_bytes(capacity: int) -> int:
    """Meta-data of a page with `capacity` slots: the local bitset, the remote bitset, the trailer."""
    return 2 * 8 * bitset_words(capacity) + TRAILER.size


def bitset_words(bits: int) -> int:
    """Words of a bitset, all levels.

    >>> bitset_words(64), bitset_words(65), bitset_words(4096), bitset_words(4097)
    (1, 3, 65, 68)
    """
    level = total = -(-bits // WORD_BITS)
    while level > 1:
        level = -(-level // WORD_BITS)
        total += level
    return total


class Bitset:
    """A set of the numbers below `size`, in 64-bit words, with summaries.

    Level 0 has a bit per number. Each level above has a bit per word of the level below, set if that word is not zero,
    up to a level of one word. So the lowest member is found without a scan, one step per level. In a page the summaries
    of the local bitset are their owner's own: whoever takes the page up makes them anew.

    >>> numbers = Bitset(memoryview(bytearray(24)).cast("Q"), 100)
    >>> numbers.add(70)
    >>> numbers.lowest(), 70 in numbers, 71 in numbers
    (70, True, False)
    """

    def __init__(self, words: memoryview, size: int) -> None:
        self.levels: list[memoryview] = []
        while not self.levels or size > 1:
            size = -(-size // WORD_BITS)
            self.levels.append(words[:size])
            words = words[size:]

    def __contains__(self, number: int) -> bool:
        return bool(self.levels[0][number // WORD_BITS] >> number % WORD_BITS & 1)

    def lowest(self) -> int:
        """The smallest member; there must be one."""
        position = 0
        for level in reversed(self.levels):
            word = level[position]
            position = position * WORD_BITS + (word & -word).bit_length() - 1
        return position

    def add(self, number: int) -> None:
        """Makes a number a member."""
        for level in self.levels:
            number, bit = divmod(number, WORD_BITS)
            level[number] |= 1 << bit

    def remove(self, number: int) -> None:
        """Makes a member none."""
        for level in self.levels:
            number, bit = divmod(number, WORD_BITS)
            level[number] &= ~(1 << bit)
            if level[number]:
                return

    def to_int(self) -> int:
        """All members as one integer, number n as bit n."""
        return sum(word << i * WORD_BITS for i, word in enumerate(self.levels[0]))

    def assign(self, members: int) -> None:
        """The members become those of an integer; the summaries follow."""
        for level in self.levels:
            level[:] = _words_of(members, len(level))
            members = _summary_of(level)

    def summaries_hold(self) -> bool:
        """True if each level says of the one below what it should."""
        return all(
            level.tolist() == _words_of(_summary_of(below), len(level)).tolist()
            for below, level in zip(self.levels, self.levels[1:], strict=False)
        )


def _words_of(members: int, count: int) -> array[int]:
    """An integer as `count` words, the lowest first."""
    return array("Q", (members >> i * WORD_BITS & ALL_ONES for i in range(count)))


def _summary_of(level: memoryview) -> int:
    """Bit i: word i is not zero."""
    return sum(1 << i for i, word in enumerate(level) if word)


def trailer_of(object_bytes: int, capacity: int, page_bytes: int) -> bytes:
    """The last bytes of a page that carries a slab: magic, its three numbers, zero, and a check of all that."""
    mixed = (MAGIC ^ (object_bytes << 32 | capacity)) * GOLDEN & ALL_ONES
    return TRAILER.pack(MAGIC, object_bytes, capacity, page_bytes, 0, mixed ^ page_bytes)


def carried_by(page: Page) -> tuple[int, int] | None:
    """Object size and capacity of the slab that a page carries, or None."""
    data = bytes(page.buffer[-TRAILER.size :])
    _, object_bytes, capacity, *_ = TRAILER.unpack(data)
    return (object_bytes, capacity) if data == trailer_of(object_bytes, capacity, page.SIZE) else None


def wipe(page: Page) -> None:
    """The page no longer carries a slab: its magic becomes zero."""
    page.buffer[-TRAILER.size :][:8] = bytes(8)
