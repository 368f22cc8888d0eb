# SPDX-License-Identifier: MIT
"""Aligned mappings, from whichever of two makers is here (floor 5).

The native `Mapping` cuts an aligned mapping exactly, takes huge pages and maps files. Where the extension can't be
loaded, mmap of the standard library serves anonymous memory, aligned by mapping more: that costs addresses, not memory.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from ..pages import address_of
from ..switches import is_on

if TYPE_CHECKING:
    from .. import _native

__all__ = ["Mapping", "map_anonymous", "map_file", "map_huge", "native_type", "require_native"]


class Mapping(Protocol):
    """Mapped memory; unmapped when it is dropped and its last view is gone."""

    @property
    def address(self) -> int:
        """Of the first byte."""

    @property
    def size(self) -> int:
        """Bytes."""

    def view(self) -> memoryview:
        """All of it, writable, format ``B``."""

    def purge(self, offset: int, size: int) -> None:
        """Drops physical memory; private memory reads as zero afterwards. OSError if the system refuses."""


def map_anonymous(size: int, align: int, *, advise_huge: bool = False) -> Mapping:
    """Private memory, zero, aligned to `align`; OSError if the system refuses, but not if it refuses the advice."""
    native = native_type()
    if native is None:
        return _PlainMapping(size, align, advise_huge)
    mapping = _NativeMapping(native.anonymous(size, align=align))
    if advise_huge:
        mapping.advise_huge()
    return mapping


def map_huge(size: int, align: int) -> Mapping:
    """Private memory in explicit huge pages; OSError if there are none, NotImplementedError without the extension."""
    return _NativeMapping(require_native("explicit huge pages need").anonymous(size, align=align, huge=True))


def map_file(fd: int, size: int, align: int, offset: int) -> Mapping:
    """`size` bytes of a file from `offset` on, shared and writable, even beyond the file's present end.

    Raises OSError if the system refuses, NotImplementedError without the extension.
    """
    return _NativeMapping(require_native("a mapped file needs").file(fd, size, align=align, offset=offset))


def native_type() -> type[_native.Mapping] | None:
    """The extension's Mapping, if there is one and the client has not asked to do without."""
    if is_on("SLABMALLOC_PURE"):
        return None
    try:
        from .._native import Mapping
    except ImportError:
        return None
    return Mapping


def require_native(purpose: str) -> type[_native.Mapping]:
    """The extension's Mapping; NotImplementedError, whose text starts with `purpose`, if there is none."""
    native = native_type()
    if native is None:
        raise NotImplementedError(
            f"{purpose} slabmalloc's extension, which is not loaded (SLABMALLOC_PURE is set, or it was not built)"
        )
    return native


class _NativeMapping:
    def __init__(self, memory: _native.Mapping) -> None:
        self._memory = memory
        self.address = memory.address
        self.size = memory.size

    def view(self) -> memoryview:
        return memoryview(self._memory).cast("B")

    def purge(self, offset: int, size: int) -> None:
        self._memory.purge(offset, size)

    def advise_huge(self) -> None:
        with suppress(OSError):  # a kernel without transparent huge pages; the memory is as good without
            self._memory.advise_huge()


class _PlainMapping:
    def __init__(self, size: int, align: int, advise_huge: bool) -> None:
        import mmap  # not there on every platform, and needed by this class alone

        excess = align - mmap.PAGESIZE if align > mmap.PAGESIZE else 0
        self._memory = mmap.mmap(-1, size + excess, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        start = address_of(self._memory)
        self._skip = -start % align
        self.address = start + self._skip
        self.size = size
        self._dont_need: int | None = getattr(mmap, "MADV_DONTNEED", None)
        if advise_huge and hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):
                self._memory.madvise(mmap.MADV_HUGEPAGE)

    def view(self) -> memoryview:
        return memoryview(self._memory)[self._skip : self._skip + self.size]

    def purge(self, offset: int, size: int) -> None:
        if self._dont_need is not None:
            self._memory.madvise(self._dont_need, self._skip + offset, size)
