# SPDX-License-Identifier: MIT
"""What the process allocator did and holds (floor 5): frozen records, in blocks and bytes.

A *block* is what somebody asks a domain for: CPython one of its own, NumPy, or whoever calls malloc. One law holds at
every moment, and `conserved` checks it: blocks served less blocks freed, over all domains, are the live objects of the
heap.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DomainStats", "ProcessStats", "SizeClassStats"]


@dataclass(frozen=True, slots=True)
class DomainStats:
    """What a domain (one of CPython's, NumPy's data, malloc) asked for since slabmalloc was installed for it."""

    served_blocks: int = 0
    """Blocks that came from slabmalloc's heap."""
    served_bytes: int = 0
    """What they were asked for with; a later growth in place is not in it."""
    resized_blocks: int = 0
    """Calls of realloc that left the block where it was."""
    freed_blocks: int = 0
    """Blocks of the heap that came back by the domain's functions, those that realloc moved included."""
    passed_blocks: int = 0
    """Blocks passed on to the allocator that was there before: for interpreters with a lock of their own, or when the
    system refuses memory."""
    passed_bytes: int = 0

    def to_dict(self) -> dict[str, int]:
        """The fields by name, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SizeClassStats:
    """All slabs of one size, of all heaps."""

    object_bytes: int
    slabs: int
    pages_bytes: int
    resident_bytes: int
    """Of `pages_bytes`: physical memory, as `ProcessStats.heap_resident_bytes` is."""
    peak_pages_bytes: int
    """The most that there ever was, of each heap at its own time."""
    live_objects: int
    free_objects: int
    served_objects: int
    """Handed out so far; in hardened mode, those too that wait for it."""
    remote_frees: int

    def to_dict(self) -> dict[str, int]:
        """The fields by name, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ProcessStats:
    """What the process heap holds now, and what each installed domain did; as text, the tables of the summary.

    >>> stats = ProcessStats()
    >>> stats.conserved
    True
    >>> print(stats)  # doctest: +ELLIPSIS
    domain         served blocks  served MiB ...
    """

    domains: Mapping[str, DomainStats] = field(default_factory=dict, repr=False)
    """By name, for the installed domains; empty before the first `install`."""
    live_objects: int = 0
    """Blocks handed out and not given back."""
    live_bytes: int = 0
    """The same by the size of their slots."""
    free_bytes: int = 0
    """Free slots of slabs; some have no physical memory, because they were never used, or gave it back."""
    tail_bytes: int = 0
    """What is behind the last slot of slabs."""
    mapped_bytes: int = 0
    """Pages that hold slabs, large blocks, and what rests."""
    heap_resident_bytes: int = 0
    """Of `mapped_bytes`: physical memory, by the kernel's mincore: what the process shares with a child that it forked
    counts whole, what is swapped out does not count."""
    peak_mapped_bytes: int = 0
    resting_bytes: int = 0
    """Of `mapped_bytes`: empty pages and freed large blocks whose memory has not been given back yet."""
    given_back_bytes: int = 0
    """Memory returned to the operating system, so far; memory that is used again and returned again counts again."""
    reserved_bytes: int = field(default=0, repr=False)
    """Address space set aside; it costs no memory."""
    bookkeeping_bytes: int = field(default=0, repr=False)
    served_objects: int = field(default=0, repr=False)
    """Blocks handed out so far; in hardened mode, those too that wait for it."""
    remote_frees: int = field(default=0, repr=False)
    """Blocks freed by another thread than their heap's owner, and collected, so far."""
    large_objects: int = field(default=0, repr=False)
    """Of `live_objects`: blocks above 128 KiB, each a mapping of its own."""
    large_bytes: int = field(default=0, repr=False)
    large_resting_bytes: int = field(default=0, repr=False)
    """Of `resting_bytes`: freed large blocks."""
    large_resident_bytes: int = field(default=0, repr=False)
    """Of `heap_resident_bytes`: large blocks, live and resting."""
    large_peak_bytes: int = field(default=0, repr=False)
    """The most that live and resting large blocks ever were."""
    large_served: int = field(default=0, repr=False)
    """Large blocks handed out so far."""
    large_reused: int = field(default=0, repr=False)
    """Of these: served from those that rest."""
    heaps: int = field(default=0, repr=False)
    abandoned_heaps: int = field(default=0, repr=False)
    """Of `heaps`: those of threads that have ended, waiting for the next."""
    huge_pages: str = field(default="off", repr=False)
    """Whether pages are put into them: on, off, or why not although that is asked for."""
    huge_page_bytes: int = field(default=0, repr=False)
    """If they are: memory of pages comes and goes by so much."""
    hardened: bool = field(default=False, repr=False)
    """Whether blocks are sealed, zeroed and kept back, and guarded: `--hardened`, SLABMALLOC_HARDENED=1."""
    classes: tuple[SizeClassStats, ...] = field(default=(), repr=False)
    """For each size of which there are, or were, slabs."""
    resident_bytes: int | None = None
    """Physical memory of the whole process, PSS by the kernel's account; None where /proc/self/smaps_rollup can't be
    read, or there is no native extension."""
    resident_huge_bytes: int | None = field(default=None, repr=False)
    """Physical memory of the process that is in transparent huge pages, ours and others."""

    @property
    def conserved(self) -> bool:
        """True if each live object is a block that was served and not freed, and each mapped byte is accounted for.

        Every mapped byte is live, free, tail or resting. While other threads allocate it may be False for a moment.
        """
        held = sum(row.served_blocks - row.freed_blocks for row in self.domains.values())
        mapped = self.live_bytes + self.free_bytes + self.tail_bytes + self.resting_bytes
        return held == self.live_objects and mapped == self.mapped_bytes

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, `domains` as a dictionary of such, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        from .domains import summary_tables

        return summary_tables(self)
