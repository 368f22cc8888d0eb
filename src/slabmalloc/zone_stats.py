# SPDX-License-Identifier: MIT
"""What a zone holds, byte by byte (floor 5).

Conservation is the one law here: each byte that came from the pager is live, free, meta-data, tail or empty, so
``live + free + metadata + tail + empty = mapped``, for each class and for the sum. `conserved` says whether it holds.
The native zone and its specification fill in the same records, so that two zones compare by ``==``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ClassStats", "ZoneStats"]


@dataclass(frozen=True, slots=True)
class ClassStats:
    """One size class of a zone. Fields in bytes unless their name says objects or pages."""

    object_bytes: int
    """Size of a slot."""
    page_bytes: int
    """Size of a page of this class."""
    capacity: int
    """Objects per page."""
    empty_pages: int = 0
    """Pages without a live object."""
    partial_pages: int = 0
    """Pages with live objects and free slots."""
    full_pages: int = 0
    """Pages without a free slot."""
    live_objects: int = 0
    """Objects handed out and not given back."""
    live_bytes: int = 0
    """`live_objects` x `object_bytes`."""
    free_bytes: int = 0
    """Free slots of pages that hold a live object."""
    metadata_bytes: int = 0
    """Bitmaps and trailer of those pages."""
    tail_bytes: int = 0
    """What no slot fits into, in those pages."""
    empty_bytes: int = 0
    """Empty pages, whole."""
    mapped_bytes: int = 0
    """Pages taken less pages returned, by a count of its own."""
    remote_frees: int = 0
    """Objects that other threads freed, so far."""
    late_double_frees: int = 0
    """Of those, freed by two threads at the same time: too late to tell either."""
    pages_taken: int = 0
    """Pages that came from the client or pager, so far."""
    pages_returned: int = 0
    """Pages that went back, so far."""

    @property
    def conserved(self) -> bool:
        """True if each byte is accounted for once, and each page."""
        pages = self.empty_pages + self.partial_pages + self.full_pages
        return (
            _bytes_accounted(self) == self.mapped_bytes == pages * self.page_bytes
            and pages == self.pages_taken - self.pages_returned
            and self.live_bytes == self.live_objects * self.object_bytes
        )

    @property
    def occupancy(self) -> float:
        """Live slots / slots, over all pages of this class; 0.0 without a page."""
        slots = (self.empty_pages + self.partial_pages + self.full_pages) * self.capacity
        return self.live_objects / slots if slots else 0.0

    def to_dict(self) -> dict[str, int]:
        """The fields by name, ready for JSON."""
        return asdict(self)


_PER_CLASS = ("object_bytes", "page_bytes", "capacity")
_SUMMED = tuple(item.name for item in fields(ClassStats) if item.name not in _PER_CLASS)


@dataclass(frozen=True, slots=True)
class ZoneStats:
    """The sums over all classes of a zone, and the classes that hold or held pages.

    >>> stats = ZoneStats.from_classes([ClassStats(64, 4096, 63)])
    >>> stats.mapped_bytes, stats.conserved
    (0, True)
    """

    classes: tuple[ClassStats, ...] = field(repr=False)
    """Statistics of each class with a page now or before, by ascending size."""
    empty_pages: int = 0
    partial_pages: int = 0
    full_pages: int = 0
    live_objects: int = 0
    live_bytes: int = 0
    free_bytes: int = 0
    metadata_bytes: int = 0
    tail_bytes: int = 0
    empty_bytes: int = 0
    mapped_bytes: int = 0
    remote_frees: int = 0
    late_double_frees: int = 0
    pages_taken: int = 0
    pages_returned: int = 0
    bookkeeping_bytes: int = field(default=0, compare=False)
    """What the zone needs outside its pages: how it is built, not what it holds, so ``==`` leaves it out."""

    @classmethod
    def from_classes(cls, classes: Iterable[ClassStats], bookkeeping_bytes: int = 0) -> ZoneStats:
        """The sum of `classes`."""
        rows = tuple(classes)
        sums = {name: sum(getattr(row, name) for row in rows) for name in _SUMMED}
        return cls(rows, bookkeeping_bytes=bookkeeping_bytes, **sums)

    @property
    def conserved(self) -> bool:
        """True if each byte is accounted for once, in each class and in the sum."""
        return (
            _bytes_accounted(self) == self.mapped_bytes
            and all(row.conserved for row in self.classes)
            and all(getattr(self, name) == sum(getattr(row, name) for row in self.classes) for name in _SUMMED)
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, `classes` as a sequence of such, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return _table(self)


def _bytes_accounted(stats: ClassStats | ZoneStats) -> int:
    """The left side of the law of conservation."""
    return stats.live_bytes + stats.free_bytes + stats.metadata_bytes + stats.tail_bytes + stats.empty_bytes


_COLUMNS = {
    "class": "object_bytes",
    "objects": "live_objects",
    "full": "full_pages",
    "partial": "partial_pages",
    "empty": "empty_pages",
    "live B": "live_bytes",
    "free B": "free_bytes",
    "meta B": "metadata_bytes",
    "tail B": "tail_bytes",
    "empty B": "empty_bytes",
    "mapped B": "mapped_bytes",
}


def _table(stats: ZoneStats) -> str:
    """A line per class and one for the sum, columns right-aligned."""
    rows = [list(_COLUMNS)]
    rows += [[f"{getattr(row, name):,}" for name in _COLUMNS.values()] for row in stats.classes]
    rows += [["all"] + [f"{getattr(stats, name):,}" for name in list(_COLUMNS.values())[1:]]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    if not stats.conserved:
        lines.append("NOT CONSERVED: the columns of a line do not add up to its mapped bytes")
    return "\n".join(lines)
