# SPDX-License-Identifier: MIT
"""Pages in a named shared-memory segment: one process allocates, others read (floor 5)."""

from __future__ import annotations

import os
from importlib import import_module

from .segment_pager import SegmentPager

__all__ = ["SharedMemoryPager"]


class SharedMemoryPager(SegmentPager):
    """Pages in the shared-memory segment `name`, the same names as `multiprocessing.shared_memory` has.

    name:     without a slash; None with `create`: a new one, see `.name`.
    size, max_size, recover: as for `FilePager`.
    create:   True: make it; FileExistsError if there is one. False: attach to it; FileNotFoundError if there is none.
    readonly: attach to look into it by offset, while the writer goes on; needs no extension.

    The segment lasts until somebody calls `unlink`, or the machine restarts: neither `close` nor the end of a process,
    nor the resource tracker of multiprocessing, removes it. Errors as for `FilePager`.

    >>> with SharedMemoryPager(create=True) as pager:
    ...     page = pager.allocate_page()
    ...     page.buffer[:5] = b"hello"
    ...     with SharedMemoryPager(pager.name, readonly=True) as reader:
    ...         print(bytes(reader.view(pager.offset_of(page.address), 5)))
    ...     pager.release_page(page)
    ...     pager.unlink()
    b'hello'
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        size: int = 2 << 20,
        max_size: int = 16 << 30,
        create: bool = False,
        readonly: bool = False,
        recover: bool = False,
    ) -> None:
        if readonly and create:
            raise ValueError("a segment that is made can't be read-only")
        if name is None:
            if not create:
                raise ValueError("a segment without a name can't be found: pass its name, or create=True")
            name = f"slabmalloc_{os.urandom(4).hex()}"
        if "/" in name:
            raise ValueError(f"a segment's name has no slash: {name!r}")
        self._name = name
        flags = os.O_RDONLY if readonly else os.O_RDWR
        fd = _shm_open(name, flags | (os.O_CREAT | os.O_EXCL if create else 0))
        where = f"shared memory {name!r}"
        try:
            super().__init__(fd, where, readonly=readonly, recover=recover, size=size, max_size=max_size)
        except BlockingIOError:  # between our making and our lock, somebody else came: it is theirs
            raise
        except BaseException:
            if create:
                self.unlink()
            raise

    @property
    def name(self) -> str:
        """What others attach by."""
        return self._name

    def unlink(self) -> None:
        """Removes the name; the memory goes when the last process has closed. FileNotFoundError the second time."""
        import_module("_posixshmem").shm_unlink(f"/{self._name}")


def _shm_open(name: str, flags: int) -> int:
    """A descriptor of the segment; OSError says why not."""
    shm = import_module(
        "_posixshmem"
    )  # where multiprocessing.shared_memory has its segments from; CPython on POSIX only
    descriptor: int = shm.shm_open(f"/{name}", flags, mode=0o600)
    return descriptor
