# SPDX-License-Identifier: MIT
"""Pages inside a client's own buffer (floor 5).

Whatever memory the client has (a bytearray, pinned or device-visible memory, somebody else's shared-memory segment),
its aligned blocks become pages of any mix of sizes. Which block is free, buddy.py knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InvalidPage, OutOfMemory
from ..pages import MAX_PAGE_BYTES, MIN_PAGE_BYTES, ObjectPage, Page, address_of, readable_bytes
from .buddy import BuddyRange
from .protocol import HoldingPager, check_page_type, request_text

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["BufferPager"]


class BufferPager(HoldingPager[int]):
    """All aligned pages inside `buffer`, of mixed types; OutOfMemory when no block is left that is large enough.

    buffer: writable and C-contiguous, with room for an aligned page of 4 KiB (8191 bytes always have it); exported
            until `close`. Its contents stay as they are, and so does what a page held when it went back.

    A page of n bytes can be had exactly if n free bytes lie at a multiple of n: pages that went back join with free
    neighbours at once. The smallest block that serves is cut first, then the lowest, so that large blocks stay whole.

    >>> pager = BufferPager(bytearray(3 * 4096 - 1))
    >>> page = pager.allocate_page()
    >>> pager.bytes_in_use, pager.bytes_free
    (4096, 4096)
    """

    def __init__(self, buffer: Buffer, /) -> None:
        super().__init__()
        view = memoryview(buffer)
        if view.readonly or not view.c_contiguous:
            fault = "read-only" if view.readonly else "strided"
            raise InvalidPage(
                f"BufferPager needs writable, C-contiguous memory: this {type(buffer).__name__} is {fault}"
            )
        self._address = address_of(view) if view.nbytes else 0
        self._free = BuddyRange(MIN_PAGE_BYTES, MAX_PAGE_BYTES)
        self._free.add(self._address, self._address + view.nbytes)
        if not self._free.free_bytes:
            raise InvalidPage(
                f"no aligned page of 4 KiB lies in this {type(buffer).__name__} of {view.nbytes} bytes at "
                f"{self._address:#x}; pass at least {MIN_PAGE_BYTES + -self._address % MIN_PAGE_BYTES} bytes there"
            )
        self._view = view
        self._bytes_total = self._free.free_bytes

    @property
    def bytes_total(self) -> int:
        """Bytes of the buffer that pages can be made of."""
        return self._bytes_total

    @property
    def bytes_free(self) -> int:
        """Bytes of `bytes_total` that are in no page now."""
        return self._free.free_bytes

    def allocate_page(self, page_type: type[Page] = ObjectPage) -> Page:
        """A page of `page_type` at the lowest address of the smallest block that serves; OutOfMemory if none does."""
        with self._lock:
            self._check_open()
            address = self._free.take(check_page_type(page_type).SIZE)
            if address is None:
                raise OutOfMemory(
                    f"no block of {request_text(page_type)}: {readable_bytes(self.bytes_free)} of "
                    f"{readable_bytes(self.bytes_total)} free, the largest block "
                    f"{readable_bytes(self._free.largest_free())}"
                )
            try:
                page = page_type(self._view, address - self._address)
            except BaseException:
                self._free.give(address, page_type.SIZE)
                raise
            self._hold(page, address)
            return page

    def release_page(self, page: Page) -> None:
        """Takes a page back; InvalidPage if it is not out, not this pager's, or in use by an allocator."""
        with self._lock:
            self._free.give(self._claim(page), page.SIZE)

    def _shut(self) -> None:
        self._view.release()

    def _details(self) -> str:
        return f"{readable_bytes(self.bytes_free)} of {readable_bytes(self.bytes_total)} free at {self._address:#x}"
