# SPDX-License-Identifier: MIT
"""A segment's bytes, as its one writer and its many readers see them (floor 5).

Both know a segment as an open descriptor, be it of a file or of shared memory. The writer holds the exclusive lock, and
keeps header and table mapped; addresses of pages never move, because all that the segment may become is mapped from the
start. A reader maps what is there, read-only, and maps again when the segment has grown.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING
from zlib import crc32

from ..errors import InvalidPage, OutOfMemory
from ..pages import MAX_PAGE_BYTES, readable_bytes
from .mapping import Mapping, map_file, require_native
from .segment import CLEAN, HEADER_BYTES, OPEN, UNIT_BYTES, Header, read_header, table_byte

# Not there on every platform, and needed by writers alone: but a zone may end when nothing can be imported any more.
try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap

__all__ = ["SegmentReader", "SegmentWriter", "unlock"]

BACKING_STEP_BYTES = 1 << 20


class SegmentWriter:
    """The segment in the hands of the one process that may change it; marked open until `close`.

    Ends with an exception, and nothing changed, if the segment is locked, not a segment, or can't be mapped.
    """

    def __init__(self, fd: int, where: str, *, size: int, max_size: int) -> None:
        require_native(f"{where} needs, to be written,")
        self.where = where
        self._fd = fd
        self._backed_bytes = 0
        self._is_changing = False
        _lock(fd, where)
        if _length(fd) == 0:
            _create(fd, size, max_size)
        self.header, self.was_clean = read_header(os.pread(fd, HEADER_BYTES, 0), where)
        _check_length(fd, self.header, where)
        mapping = _map_pages(fd, self.header, where)
        self.address = mapping.address
        self.memory = mapping.view()
        self._head = _map_shared(fd, self.header.head_bytes, 0, writable=True)
        self.table = memoryview(self._head)[HEADER_BYTES:]

    def table_fits(self) -> bool:
        """True if the table is the one that was there when the segment was closed."""
        return crc32(self.used_table()) == self.header.table_crc

    def used_table(self) -> bytes:
        """The table, as long as there are pages."""
        return bytes(self.table[: self.header.size // UNIT_BYTES])

    def mark(self, offset: int, size: int, state: int) -> None:
        """Says in the table what is at `offset`: one byte, so it is never half said."""
        self.table[offset // UNIT_BYTES] = table_byte(state, size)

    def update(self, **changes: int) -> None:
        """Changes fields of the header. RuntimeError in a finaliser that interrupts another change."""
        with self._alone():
            self.header = self.header.write(memoryview(self._head), **changes)

    def opened(self, backed_bytes: int) -> None:
        """The segment is believed, and this process's from now on; `backed_bytes` of it have been written before."""
        self._backed_bytes = backed_bytes
        self.update(state=OPEN, writer=os.getpid(), table_crc=0)

    def grow(self) -> tuple[int, int] | None:
        """Doubles the room for pages: from where to where it is new, or None if it is as large as it may be.

        Raises OutOfMemory if the system refuses, RuntimeError as `update` does.
        """
        with self._alone():
            old, new = self.header.size, min(2 * self.header.size, self.header.max_size)
            if new == old:
                return None
            try:
                os.ftruncate(self._fd, max(self.header.head_bytes + new, _length(self._fd)))
                _allocate_blocks(self._fd, HEADER_BYTES + old // UNIT_BYTES, HEADER_BYTES + new // UNIT_BYTES)
            except OSError as error:
                raise OutOfMemory(
                    f"{self.where} can't grow from {readable_bytes(old)} to {readable_bytes(new)}: {error}"
                ) from error
            self.header = self.header.write(memoryview(self._head), size=new)
            return old, new

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The pager's lock keeps other threads out, but not a finaliser that runs in the middle of a change."""
        if self._is_changing:
            raise RuntimeError(f"{self.where} is being changed already, further down this very stack")
        self._is_changing = True
        try:
            yield
        finally:
            self._is_changing = False

    def back(self, end: int) -> None:
        """Pages below `end` have disk blocks, or memory: a full disk is an OutOfMemory here, and no SIGBUS later."""
        if end <= self._backed_bytes:
            return
        ahead = self._backed_bytes + max(BACKING_STEP_BYTES, self._backed_bytes >> 3)
        wanted = max(end, min(ahead, self.header.size))
        for target in (wanted, end):
            try:
                _allocate_blocks(self._fd, self.header.head_bytes + self._backed_bytes, self.header.head_bytes + target)
            except OSError as error:
                refused = error
            else:
                self._backed_bytes = target
                return
        raise OutOfMemory(f"{self.where} gets no room for its next page: {refused}") from refused

    def flush(self) -> None:
        """Waits until all that was written is on the disk."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Contents first, then the word that they are whole; then lets go of memory and lock."""
        self.flush()
        self.update(state=CLEAN, writer=0, table_crc=crc32(self.used_table()))
        self.flush()
        unlock(self._fd)
        self.forget()

    def forget(self) -> None:
        """Lets go and changes nothing: the segment is not believed, or another process's (which shares the lock)."""
        self.memory.release()
        self.table.release()
        self._head.close()
        os.close(self._fd)


class SegmentReader:
    """The segment as others see it: read-only, while its writer goes on. Needs no extension.

    Addresses stay valid until `close`: when the segment has grown, a longer mapping is made beside the old ones.
    """

    def __init__(self, fd: int, where: str) -> None:
        self.where = where
        self._fd = fd
        self._mappings: list[tuple[int, memoryview, mmap]] = []  # (address, bytes, owner), the longest last
        self._lock = Lock()
        self.refresh()

    def refresh(self) -> Header:
        """The header as it is now."""
        self.header, _ = read_header(os.pread(self._fd, HEADER_BYTES, 0), self.where)
        _check_length(self._fd, self.header, self.where)
        return self.header

    def view(self, offset: int, size: int) -> memoryview:
        """`size` bytes from `offset` on."""
        return self._longest(offset + size)[1][offset : offset + size]

    def address_of(self, offset: int) -> int:
        """Where `offset` is in this process."""
        return self._longest(offset + 1)[0] + offset

    def offset_of(self, address: int) -> int | None:
        """The offset at an address that `address_of` gave; None for any other."""
        for start, memory, _ in self._mappings:
            if 0 <= address - start < memory.nbytes:
                return address - start
        return None

    def _longest(self, end: int) -> tuple[int, memoryview, mmap]:
        """A mapping that reaches `end`, which is known to be within the segment."""
        with self._lock:
            if not self._mappings or self._mappings[-1][1].nbytes < end:
                header = self.refresh()
                owner = _map_shared(self._fd, header.size, header.head_bytes, writable=False)
                self._mappings.append((_address_of_readonly(owner), memoryview(owner), owner))
            return self._mappings[-1]

    def close(self) -> None:
        """Lets go; what views still see stays mapped until they are gone."""
        self._mappings.clear()
        os.close(self._fd)


def _lock(fd: int, where: str) -> None:
    """Takes the writer's lock; BlockingIOError if somebody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(
            errno.EWOULDBLOCK, f"{where} has a writer already: close it there, or attach with readonly=True"
        ) from None


def unlock(fd: int) -> None:
    """Gives up the writer's lock. Closing does not: whoever has a page keeps the mapping, and that keeps the lock."""
    fcntl.flock(fd, fcntl.LOCK_UN)


def _map_shared(fd: int, size: int, offset: int, *, writable: bool) -> mmap:
    import mmap

    access = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
    return mmap.mmap(fd, size, mmap.MAP_SHARED, access, offset=offset)


def _length(fd: int) -> int:
    return os.fstat(fd).st_size


def _check_length(fd: int, header: Header, where: str) -> None:
    needed = header.head_bytes + header.size
    if _length(fd) < needed:
        raise InvalidPage(f"{where} is truncated: it has {_length(fd)} bytes and needs {needed}")


def _allocate_blocks(fd: int, start: int, end: int) -> None:
    if end > start:
        os.posix_fallocate(fd, start, end - start)


def _map_pages(fd: int, header: Header, where: str) -> Mapping:
    """Addresses for all pages that there may ever be."""
    try:
        return map_file(fd, header.max_size, header.align, header.head_bytes)
    except (OSError, MemoryError) as error:
        raise OutOfMemory(
            f"no address space for {where}: {readable_bytes(header.max_size)} are reserved so that it may grow in "
            f"place ({error}); make it with a smaller max_size"
        ) from error


def _create(fd: int, size: int, max_size: int) -> None:
    """Makes an empty file an empty segment; the header comes last."""
    if size < 1:
        raise ValueError(f"size is {size}: there must be room for a page")
    size = -(-size // UNIT_BYTES) * UNIT_BYTES
    max_size = max(size, -(-max_size // UNIT_BYTES) * UNIT_BYTES)
    align = min(1 << max_size.bit_length() - 1, MAX_PAGE_BYTES)
    header = Header(state=CLEAN, size=size, max_size=max_size, align=align, table_crc=crc32(bytes(size // UNIT_BYTES)))
    os.ftruncate(fd, header.head_bytes + size)
    _allocate_blocks(fd, 0, HEADER_BYTES + size // UNIT_BYTES)
    head = bytearray(HEADER_BYTES)
    header.write(memoryview(head))
    os.pwrite(fd, head, 0)


def _address_of_readonly(memory: mmap) -> int:
    """Address of memory that ctypes would take only if it were writable."""
    import ctypes  # only who reads pays for its import

    class PyBuffer(ctypes.Structure):  # of CPython's stable interface
        _fields_ = (
            ("buf", ctypes.c_void_p),
            ("obj", ctypes.c_void_p),
            ("len", ctypes.c_ssize_t),
            ("itemsize", ctypes.c_ssize_t),
            ("readonly", ctypes.c_int),
            ("ndim", ctypes.c_int),
            *((name, ctypes.c_void_p) for name in ("format", "shape", "strides", "suboffsets", "internal")),
        )

    buffer = PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(memory), ctypes.byref(buffer), 0)
    address = int(buffer.buf)
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return address
