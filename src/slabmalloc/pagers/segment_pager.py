# SPDX-License-Identifier: MIT
"""Pages in a segment: what `FilePager` and `SharedMemoryPager` share (floor 5).

A segment has one writer at a time, whose pages these are, and any number of readers, who look by offset. What lies in
it and how it is checked, segment.py tells; the two subclasses know only where a segment is found.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InvalidPage, OutOfMemory
from ..pages import MAX_PAGE_BYTES, ObjectPage, Page, page_type, readable_bytes
from ..slab_format import wipe
from .buddy import BuddyRange
from .protocol import HoldingPager, check_page_type, request_text
from .segment import FREE, NO_ROOT, RETAINED, UNIT_BYTES, USED, Header, entries_of, live_objects
from .segment_file import SegmentReader, SegmentWriter, unlock

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Recovery", "SegmentPager"]


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `recover=True` found in a segment that was not closed."""

    kept_pages: int
    """Pages whose slabs are whole and hold live objects; a zone restores them."""
    live_objects: int
    """Objects on these pages, those included that nobody remembers."""
    freed_pages: int
    """Pages that were out, but carried no slab or no object."""


class SegmentPager(HoldingPager[int]):
    """Base of the pagers whose pages outlive the process; not to be made by itself.

    Closing needs all pages back. Those that `retain_page` took keep their slabs; the next writer's zone restores them.
    A pager that is dropped closes itself as soon as no page is out. After a fork, only the parent has the pages.
    """

    def __init__(self, fd: int, where: str, *, readonly: bool, recover: bool, size: int, max_size: int) -> None:
        super().__init__()
        self._closed = True  # until it is open
        self._dropped = False
        self._process = os.getpid()
        self._where = where
        self._retained: dict[int, int] = {}  # offset -> size of pages that carry a slab and are not out
        self._offered: dict[Page, None] = {}  # pages from `retained_pages` that are out, taken by a zone or not
        self._free = BuddyRange(UNIT_BYTES, MAX_PAGE_BYTES)
        self._segment: SegmentReader | SegmentWriter
        self.recovery: Recovery | None = None
        try:
            if readonly:
                self._segment = SegmentReader(fd, where)
            else:
                self._segment = SegmentWriter(fd, where, size=size, max_size=max_size)
                self._believe(self._segment, recover)
        except BaseException:
            if not readonly:
                unlock(fd)  # now: it must not wait until a traceback, and what that holds, is forgotten
            os.close(fd)
            raise
        self._closed = False

    def _believe(self, writer: SegmentWriter, recover: bool) -> None:
        """Checks all that the segment says of its pages, and only then changes anything in it."""
        if not writer.was_clean and not recover:
            raise InvalidPage(
                f"{writer.where} was not closed (process {writer.header.writer} had it open): pass recover=True to "
                f"check all of it and keep what is whole"
            )
        if writer.was_clean and not writer.table_fits():
            raise InvalidPage(f"{writer.where} has a torn page table: it does not fit its checksum")
        found = []
        end = 0
        for entry in list(entries_of(writer.used_table(), writer.where)):
            page = page_type(entry.size)(writer.memory, entry.offset)
            try:
                live = live_objects(page)
            except InvalidPage as error:
                raise InvalidPage(f"{writer.where}, offset {entry.offset:#x}: {error}") from None
            if writer.was_clean and (live is None or entry.state != RETAINED):
                raise InvalidPage(
                    f"{writer.where} has a torn page table: no slab on the page at offset {entry.offset:#x}"
                )
            found.append((entry, page, live))
            self._free.add(end, entry.offset)
            end = entry.offset + entry.size
        self._free.add(end, writer.header.size)
        writer.opened(backed_bytes=end)
        for entry, page, live in found:
            if live:
                self._retained[entry.offset] = entry.size
                writer.mark(entry.offset, entry.size, RETAINED)
            else:
                wipe(page)
                writer.mark(entry.offset, entry.size, FREE)
                self._free.give(entry.offset, entry.size)
        if not writer.was_clean:
            lives = [live for _, _, live in found if live]
            self.recovery = Recovery(len(lives), sum(lives), len(found) - len(lives))

    # ---- pages go out and come back ----

    def allocate_page(self, page_type: type[Page] = ObjectPage) -> Page:
        """A page of `page_type`, at the lowest offset of the smallest block that serves.

        Raises OutOfMemory if the segment can't grow further, PermissionError if it is read-only here.
        """
        with self._lock:
            writer = self._writer()
            size = check_page_type(page_type).SIZE
            while (offset := self._free.take(size)) is None:
                grown = writer.grow() if size <= writer.header.max_size else None
                if grown is None:
                    raise OutOfMemory(self._no_block(page_type))
                self._free.add(*grown)
            try:
                writer.back(offset + size)
                page = page_type(writer.memory, offset)
            except BaseException:
                self._free.give(offset, size)
                raise
            wipe(page)  # a page that went back carries no slab, but a crash may have left one
            writer.mark(offset, size, USED)
            self._hold(page, offset)
            return page

    def release_page(self, page: Page) -> None:
        """Takes a page back; InvalidPage if it is not out, not this pager's, or in use by an allocator."""
        self._take_back(page, FREE)
        self._close_if_dropped()

    def retained_pages(self) -> Iterator[Page]:
        """Hands out the pages that carry slabs, by offset, for a zone to restore.

        One that no zone took is handed out again the next time, and is not lost if the pager closes before.
        """
        with self._lock:
            writer = self._writer()
            again = self._untaken()
            offsets = sorted(self._retained)
        yield from again
        for offset in offsets:
            with self._lock:
                size = self._retained.pop(offset, 0)
                if not size:
                    continue
                page = page_type(size)(writer.memory, offset)
                writer.mark(offset, size, USED)
                self._offered[page] = None
                self._hold(page, offset)
            yield page

    def retain_page(self, page: Page, live: int) -> None:  # noqa: ARG002
        """Takes back a page whose slab is to be kept (its `live` objects, it tells); InvalidPage if it carries none."""
        if live_objects(page) is None:
            raise InvalidPage(f"{page!r} carries no slab that could be retained: release it")
        self._take_back(page, RETAINED)
        self._close_if_dropped()

    def _take_back(self, page: Page, state: int) -> None:
        with self._lock:
            offset = self._claim(page)
            self._offered.pop(page, None)
            if os.getpid() != self._process:
                return  # the parent's page: it says when it is free
            self._writer().mark(offset, page.SIZE, state)
            if state == RETAINED:
                self._retained[offset] = page.SIZE
            else:
                self._free.give(offset, page.SIZE)

    def _close_if_dropped(self) -> None:
        if self._dropped and not self._held:
            self.close()

    # ---- where things are ----

    @property
    def size(self) -> int:
        """Bytes of pages in the segment now."""
        return self._header().size

    @property
    def max_size(self) -> int:
        """Bytes of pages that it may grow to."""
        return self._header().max_size

    @property
    def readonly(self) -> bool:
        """True if somebody else writes."""
        return isinstance(self._segment, SegmentReader)

    @property
    def writer(self) -> int | None:
        """Process that has the segment open for writing, or died so; None if it was closed."""
        return self._header().writer or None

    @property
    def pages_retained(self) -> int:
        """Pages that carry slabs and wait for a zone."""
        return len(self._retained)

    @property
    def root(self) -> int | None:
        """An offset that the segment keeps for its client, who finds all else from there; None until it is set."""
        root = self._header().root
        return None if root == NO_ROOT else root

    @root.setter
    def root(self, offset: int | None) -> None:
        with self._lock:
            writer = self._writer()
            if offset is not None:
                self._check_range(offset, 1)
            writer.update(root=NO_ROOT if offset is None else offset)

    def offset_of(self, address: int) -> int:
        """Offset, in bytes from the first page, of an address here; ValueError if it is not in the segment."""
        self._check_open()
        if isinstance(self._segment, SegmentReader):
            offset = self._segment.offset_of(address)
        else:
            offset = address - self._segment.address
        if offset is None or not 0 <= offset < self.size:
            raise ValueError(f"{address:#x} is not in {self._where}")
        return offset

    def address_of(self, offset: int) -> int:
        """Address of an offset, another one after each opening; ValueError if it is not in the segment."""
        self._check_range(offset, 1)
        if isinstance(self._segment, SegmentReader):
            return self._segment.address_of(offset)
        return self._segment.address + offset

    def view(self, offset: int, size: int) -> memoryview:
        """`size` bytes from `offset` on, format ``B``, read-only for readers; ValueError if they are not there."""
        self._check_range(offset, size)
        if isinstance(self._segment, SegmentReader):
            return self._segment.view(offset, size)
        return self._segment.memory[offset : offset + size]

    def flush(self) -> None:
        """Waits until all that was written is as safe as the segment's place makes it (on the disk, for a file)."""
        self._writer().flush()

    def _check_range(self, offset: int, size: int) -> None:
        self._check_open()
        end = offset + size
        if offset < 0 or size < 0 or (end > self._segment.header.size and end > self._header().size):
            raise ValueError(
                f"{size} bytes at offset {offset:#x} are not in {self._where}, which has {self.size} bytes"
            )

    def _header(self) -> Header:
        self._check_open()
        return self._segment.refresh() if isinstance(self._segment, SegmentReader) else self._segment.header

    def _writer(self) -> SegmentWriter:
        """The segment, for a change."""
        self._check_open()
        if isinstance(self._segment, SegmentReader):
            raise PermissionError(f"{self._where} is read-only here: only its writer has pages")
        if os.getpid() != self._process:
            raise PermissionError(f"{self._where} belongs to process {self._process}, which forked this one")
        return self._segment

    # ---- the end ----

    def _refuse_to_close_in_use(self) -> None:
        for page in self._untaken():
            self._take_back(page, RETAINED)
        super()._refuse_to_close_in_use()

    def _untaken(self) -> list[Page]:
        """Pages from `retained_pages` that carry their slabs still, but no zone has them: it could not be made."""
        return [page for page in list(self._offered) if not page.in_use and live_objects(page) is not None]

    def _shut(self) -> None:
        if isinstance(self._segment, SegmentReader) or os.getpid() == self._process:
            self._segment.close()
        else:
            self._segment.forget()

    def __del__(self) -> None:
        if getattr(self, "_closed", True):
            return
        self._dropped = True  # a zone in the same dead cycle may give pages back later: the last one closes
        with suppress(BufferError):
            self.close()

    def _no_block(self, page_type: type[Page]) -> str:
        header = self._header()
        return (
            f"{self._where} has no block of {request_text(page_type)}: {readable_bytes(self._free.free_bytes)} of "
            f"{readable_bytes(header.size)} free, the largest block {readable_bytes(self._free.largest_free())}, and "
            f"it can't grow beyond {readable_bytes(header.max_size)}"
        )

    def _details(self) -> str:
        header = self._header()
        if self.readonly:
            return f"{self._where} of {readable_bytes(header.size)}, read-only"
        return (
            f"{len(self._retained)} retained, {self._where} of {readable_bytes(header.size)}, "
            f"at most {readable_bytes(header.max_size)}"
        )
