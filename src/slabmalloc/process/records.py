# SPDX-License-Identifier: MIT
"""What the process allocator did and holds (floor 5): frozen records, in blocks and bytes.

A *block* is what CPython asks one of its domains for. One law holds at every moment, and `conserved` checks it:
blocks served less blocks freed, over all domains, are the live objects of the heap.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DomainStats", "ProcessStats"]


@dataclass(frozen=True, slots=True)
class DomainStats:
    """What one of CPython's domains asked for since slabmalloc was installed for it."""

    served_blocks: int = 0
    """Blocks that came from slabmalloc's heap."""
    served_bytes: int = 0
    """What they were asked for with; a later growth in place is not in it."""
    resized_blocks: int = 0
    """Calls of realloc that left the block where it was."""
    freed_blocks: int = 0
    """Blocks of the heap that came back, those that realloc moved included."""
    passed_blocks: int = 0
    """Blocks passed on to the allocator that was there before: too large for the heap, or the heap was used up."""
    passed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ProcessStats:
    """What the process heap holds now, and what each installed domain did.

    >>> ProcessStats().conserved
    True
    """

    domains: Mapping[str, DomainStats] = field(default_factory=dict)
    """By name, for the installed domains; empty before the first `install`."""
    live_objects: int = 0
    """Blocks handed out and not given back."""
    live_bytes: int = 0
    """The same by the size of their slots."""
    mapped_bytes: int = 0
    """Pages that hold slabs, and empty ones whose memory has not been given back yet."""
    peak_mapped_bytes: int = 0
    resting_bytes: int = 0
    """Of `mapped_bytes`: empty pages."""
    given_back_bytes: int = 0
    """Memory returned to the operating system, so far; memory that is used again and returned again counts again."""
    reserved_bytes: int = 0
    """Address space set aside; it costs no memory."""
    bookkeeping_bytes: int = 0
    remote_frees: int = 0
    """Blocks freed by interpreters with a lock of their own, so far."""

    @property
    def conserved(self) -> bool:
        """True if each live object of the heap is a block that a domain was served with and has not freed."""
        held = sum(row.served_blocks - row.freed_blocks for row in self.domains.values())
        return held == self.live_objects

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, `domains` as a dictionary of such, ready for JSON."""
        return asdict(self)
