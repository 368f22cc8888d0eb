# SPDX-License-Identifier: MIT
"""Chunks: one mapping each, cut into pages of one type (floor 5).

The system is asked seldom: for a chunk, not for a page. Pages that come back keep their `Page` objects and go out again
first, from the oldest chunk that has one, so that younger chunks drain and leave.

Invariants of a chunk: in_use + len(warm) + len(cold) + pages not cut yet = capacity; `listed` if its number is in its
pool's `open`, as it is whenever a page of it is free. Of a pool: idle = chunks with in_use = 0; warm_bytes = bytes of
all warm pages. They hold wherever a finaliser may run and call the pager again; so counts change before calls are made.
"""

from __future__ import annotations

from contextlib import suppress
from heapq import heapify, heappop, heappush
from itertools import count, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..pages import Page
    from .mapping import Mapping

__all__ = ["Chunk", "Pool"]


class Chunk:
    """Pages of one type in one mapping."""

    __slots__ = ("cold", "cut_bytes", "in_use", "listed", "mapping", "number", "size", "view", "warm")

    def __init__(self, number: int, mapping: Mapping) -> None:
        self.number = number
        self.mapping = mapping
        self.view = mapping.view()
        self.size = mapping.size
        self.in_use = 0
        self.warm: list[Page] = []  # came back, and may still be backed by memory; the last one goes out first
        self.cold: list[Page] = []  # came back, and were purged
        self.cut_bytes = 0  # pages are cut in ascending order, when they are first wanted
        self.listed = True


class Pool:
    """All chunks with pages of one type."""

    __slots__ = ("chunks", "idle", "mapped_bytes", "numbers", "open", "page_type", "purges_pages", "warm_bytes")

    def __init__(self, page_type: type[Page], *, purges_pages: bool) -> None:
        self.page_type = page_type
        self.purges_pages = purges_pages
        self.chunks: dict[int, Chunk] = {}
        self.open: list[int] = []  # a heap: numbers of chunks that may have a free page
        self.idle = 0
        self.mapped_bytes = 0
        self.warm_bytes = 0
        self.numbers = count()

    def add(self, mapping: Mapping) -> None:
        """A new chunk, all free."""
        chunk = Chunk(next(self.numbers), mapping)
        self.chunks[chunk.number] = chunk
        self.idle += 1
        self.mapped_bytes += chunk.size
        heappush(self.open, chunk.number)

    def take(self, held: dict[Page, Chunk]) -> Page | None:
        """A page from the oldest chunk that has one, noted in `held`; None if no chunk has."""
        while self.open:
            chunk = self.chunks[self.open[0]]
            page = None
            if chunk.warm:
                page = chunk.warm.pop()
                self.warm_bytes -= page.SIZE
            elif chunk.cold:
                page = chunk.cold.pop()
            elif chunk.cut_bytes == chunk.size:
                heappop(self.open)
                chunk.listed = False
                continue
            if not chunk.in_use:
                self.idle -= 1
            chunk.in_use += 1
            if page is None:
                page = self._cut(chunk)
            held[page] = chunk
            return page
        return None

    def _cut(self, chunk: Chunk) -> Page:
        offset = chunk.cut_bytes
        chunk.cut_bytes += self.page_type.SIZE
        try:
            return self.page_type(chunk.view, offset)
        except BaseException:  # no memory for the object: its place is lost to the chunk, the chunk is not
            chunk.in_use -= 1
            if not chunk.in_use:
                self.idle += 1
            raise

    def give(self, page: Page, chunk: Chunk) -> None:
        """A page comes back to its chunk. Of the chunks that are idle then, one stays."""
        chunk.warm.append(page)
        self.warm_bytes += page.SIZE
        if not chunk.listed:
            chunk.listed = True
            heappush(self.open, chunk.number)
        chunk.in_use -= 1
        if not chunk.in_use:
            self.idle += 1
            if self.idle > 1:
                self._drop(chunk)

    def purge_warm(self) -> int:
        """Drops the memory of all warm pages: how many bytes they are."""
        if not self.purges_pages:
            return 0
        before = self.warm_bytes
        for chunk in list(self.chunks.values()):
            pages, chunk.warm = chunk.warm, []  # on neither list, so a nested call can't hand them out
            self.warm_bytes -= len(pages) * self.page_type.SIZE
            _purge_pages(chunk, pages)
            chunk.cold.extend(pages)
        return before - self.warm_bytes

    def drop_idle(self) -> int:
        """Lets every idle chunk go; returns the bytes that were warm."""
        before = self.warm_bytes
        for chunk in list(self.chunks.values()):
            self._drop(chunk)
        return before - self.warm_bytes

    def _drop(self, chunk: Chunk) -> None:
        """Lets a chunk go, if it is idle still. Its addresses last as long as someone holds a page that went back."""
        if chunk.in_use or chunk.number not in self.chunks:
            return
        del self.chunks[chunk.number]
        if chunk.listed:
            self.open.remove(chunk.number)
            heapify(self.open)
        self.idle -= 1
        self.mapped_bytes -= chunk.size
        self.warm_bytes -= len(chunk.warm) * self.page_type.SIZE
        with suppress(OSError):  # the memory does not wait for whoever holds such a page
            chunk.mapping.purge(0, chunk.size)


def _purge_pages(chunk: Chunk, pages: list[Page]) -> None:
    """Purges pages of one chunk, neighbours in one system call."""
    if not pages:
        return
    size = pages[0].SIZE
    offsets = sorted(page.address - chunk.mapping.address for page in pages)
    starts = [0, *(i for i, (a, b) in enumerate(pairwise(offsets), 1) if b != a + size), len(offsets)]
    with suppress(OSError):  # advice that the system refuses (locked memory) leaves the pages as good as they were
        for first, end in pairwise(starts):
            chunk.mapping.purge(offsets[first], (end - first) * size)
