# SPDX-License-Identifier: MIT
"""Pages of private anonymous memory: `MmapPager`, and `HugePagePager` for huge pages (floor 5).

Both cut pages from chunks (chunks.py). What they add is policy: how large the next chunk is, how much memory that
nobody uses may stay resident, and what kind of memory the system is asked for.
"""

from __future__ import annotations

import warnings
from contextlib import suppress

from ..errors import OutOfMemory
from ..pages import LargeObjectPage, ObjectPage, Page, readable_bytes
from .chunks import Chunk, Pool
from .mapping import Mapping, map_anonymous, map_huge
from .protocol import HoldingPager, check_page_type, request_text

__all__ = ["HugePagePager", "MmapPager"]

MAX_CHUNK_BYTES = 16 << 20
GROWTH_SHIFT = 2  # the next chunk is a quarter of what its pool has mapped
KEEP_SHIFT = 3  # an eighth of what is in use may stay resident unused


class MmapPager(HoldingPager[Chunk]):
    """Pages of any type in private anonymous memory; a fresh page is zero, a reused one holds what was there before.

    chunk_bytes: the least that is asked of the system at once, rounded up to a power of two.
    keep_bytes:  how much memory of released pages, of each page type, may stay resident (an eighth of the bytes in use,
                 if that is more); beyond it, it is purged. One chunk without a page in use keeps its addresses.

    >>> with MmapPager() as pager:
    ...     page = pager.allocate_page()
    ...     print(page.size, pager.pages_in_use, pager.bytes_mapped)
    ...     pager.release_page(page)
    4096 1 1048576
    """

    _purges_pages = True

    def __init__(self, *, chunk_bytes: int = 1 << 20, keep_bytes: int = 4 << 20) -> None:
        super().__init__()
        if chunk_bytes < 1 or keep_bytes < 0:
            raise ValueError(f"chunk_bytes ({chunk_bytes}) must be positive, keep_bytes ({keep_bytes}) not negative")
        self._chunk_bytes = 1 << (chunk_bytes - 1).bit_length()
        self._keep_bytes = keep_bytes
        self._pools: dict[type[Page], Pool] = {}

    @property
    def bytes_mapped(self) -> int:
        """Bytes of all chunks; at most those in use and those kept are resident."""
        return sum(pool.mapped_bytes for pool in list(self._pools.values()))

    def allocate_page(self, page_type: type[Page] = ObjectPage) -> Page:
        """A page of `page_type`; one system call per chunk. Raises OutOfMemory if the system gives no more."""
        with self._lock:
            pool = self._pools.get(page_type) or self._new_pool(page_type)
            while (page := pool.take(self._held)) is None:
                self._grow(pool)
            self._held_bytes += page.SIZE
            return page

    def release_page(self, page: Page) -> None:
        """Takes a page back; InvalidPage if it is not out, not this pager's, or in use by an allocator."""
        with self._lock:
            chunk = self._claim(page)
            pool = self._pools[type(page)]
            pool.give(page, chunk)
            if pool.warm_bytes > self._keep_bytes and pool.warm_bytes > self._held_bytes >> KEEP_SHIFT:
                pool.purge_warm()

    def purge(self) -> int:
        """Gives the system all that nobody uses, the kept rest too; returns how much of it may have been resident."""
        with self._lock:
            return sum(pool.drop_idle() + pool.purge_warm() for pool in list(self._pools.values()))

    def _new_pool(self, page_type: type[Page]) -> Pool:
        self._check_open()
        pool = Pool(check_page_type(page_type), purges_pages=self._purges_pages)
        return self._pools.setdefault(page_type, pool)

    def _grow(self, pool: Pool) -> None:
        """One more chunk for `pool`: a smaller one if the system refuses, and only then OutOfMemory."""
        page_bytes = pool.page_type.SIZE
        growth = min(pool.mapped_bytes >> GROWTH_SHIFT, MAX_CHUNK_BYTES)
        size = max(self._chunk_bytes, 1 << growth.bit_length() >> 1, page_bytes)
        refused: Exception
        while size >= page_bytes:
            try:
                return pool.add(self._map(size, page_bytes))
            except (OSError, MemoryError) as error:
                refused = error
                size >>= 1
        raise OutOfMemory(
            f"the system gives {type(self).__name__} no more than {readable_bytes(self.bytes_mapped)}: "
            f"{request_text(pool.page_type)} refused ({refused})"
        ) from refused

    def _map(self, size: int, align: int) -> Mapping:
        """`size` bytes for a chunk; OSError if the system refuses."""
        return map_anonymous(size, align)

    def _shut(self) -> None:
        self.purge()
        self._pools.clear()

    def _details(self) -> str:
        chunks = sum(len(pool.chunks) for pool in list(self._pools.values()))
        return f"{readable_bytes(self.bytes_mapped)} mapped in {chunks} chunk{'' if chunks == 1 else 's'}"


class HugePagePager(MmapPager):
    """Pages in huge pages of the system, so that many pages share one entry of the CPU's address cache.

    Explicit huge pages come first (the administrator sets them aside in /proc/sys/vm/nr_hugepages). When there are
    none, or none left, the pager says so in one RuntimeWarning, and asks for transparent ones from then on, which the
    kernel grants as it can. Pages larger than a huge page are always of transparent ones. A huge page is never given
    back in part: memory returns to the system when all pages of its chunk have come back.

    chunk_bytes: as for `MmapPager`, and at least a huge page.

    >>> import warnings
    >>> with warnings.catch_warnings(action="ignore"), HugePagePager() as pager:
    ...     page = pager.allocate_page()
    ...     print(page.size, pager.mode in ("explicit", "transparent", "none"))
    ...     pager.release_page(page)
    4096 True
    """

    _purges_pages = False

    def __init__(self, *, chunk_bytes: int = 1) -> None:
        self._huge_bytes = _huge_page_bytes()
        super().__init__(chunk_bytes=max(chunk_bytes, self._huge_bytes))
        try:
            map_huge(self._huge_bytes, self._huge_bytes)  # dropped at once: whoever asks for `mode` now has the truth
            self._mode, self._reason = "explicit", "the system grants explicit huge pages"
        except (OSError, MemoryError, NotImplementedError) as error:
            self._fall_back(error, stacklevel=3)

    @property
    def mode(self) -> str:
        """What the next chunk will be of: ``'explicit'`` or ``'transparent'`` huge pages, or ``'none'``."""
        return self._mode

    @property
    def reason(self) -> str:
        """Why `mode` is what it is, in a sentence."""
        return self._reason

    def _map(self, size: int, align: int) -> Mapping:
        if self._mode == "explicit" and align <= self._huge_bytes:
            try:
                return map_huge(size, self._huge_bytes)
            except (OSError, MemoryError) as error:
                self._fall_back(error, stacklevel=5)
        return map_anonymous(size, max(align, self._huge_bytes), advise_huge=True)

    def _fall_back(self, error: Exception, stacklevel: int) -> None:
        """No explicit huge pages from now on: the mode and reason that are left, and one warning."""
        switch = _first_line("/sys/kernel/mm/transparent_hugepage/enabled")
        self._mode = "transparent" if "[always]" in switch or "[madvise]" in switch else "none"
        pool = _first_line("/proc/sys/vm/nr_hugepages")
        self._reason = (
            f"no explicit huge page to be had ({error}; /proc/sys/vm/nr_hugepages is {pool or 'not there'}); "
            f"transparent ones: {switch or 'unknown to this kernel'}"
        )
        warnings.warn(
            f"HugePagePager uses {self._mode} huge pages: {self._reason}", RuntimeWarning, stacklevel=stacklevel
        )

    def _details(self) -> str:
        return f"{super()._details()}, huge pages: {self._mode}"


def _first_line(path: str) -> str:
    """First line of a file of the system; empty if there is none."""
    with suppress(OSError):
        return "".join(_read(path).splitlines()[:1])
    return ""


def _huge_page_bytes() -> int:
    """Size of the system's explicit huge pages; that of a LargeObjectPage where it does not say."""
    with suppress(OSError):
        for line in _read("/proc/meminfo").splitlines():
            if line.startswith("Hugepagesize:"):
                return int(line.split()[1]) << 10
    return LargeObjectPage.SIZE


def _read(path: str) -> str:
    from pathlib import Path  # only who wants huge pages pays for its import

    return Path(path).read_text()
