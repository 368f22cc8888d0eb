# SPDX-License-Identifier: MIT
"""The format of what outlives a process: one for files and shared-memory segments (floor 5; told in docs/pagers.md).

    [ header 4 KiB, two equal records | page table, one byte per 4 KiB | pages ]

Offsets count from the first page; no address is written anywhere. A record carries its own CRC, and both are written
one after the other, so one is whole at any time. A segment is clean if both are whole, equal and say so; then the CRC
of the table holds too. Of a segment that is open, or was left so, only what can be checked is believed.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, fields, replace
from struct import Struct
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from ..errors import InvalidPage
from ..pages import MAX_PAGE_BYTES, MIN_PAGE_BYTES, Page
from ..slab_format import MAGIC as SLAB_MAGIC
from ..slab_format import TRAILER, WORD_BITS, bitset_words, carried_by, slab_geometry

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FREE", "RETAINED", "USED", "Entry", "Header", "entries_of", "live_objects", "read_header", "table_byte"]

MAGIC: Final = b"slabseg\n"
VERSION: Final = 1
BYTE_ORDER: Final = 0x01020304
SWAPPED_ORDER: Final = 0x04030201
CLEAN, OPEN = 1, 2  # state of a segment
FREE, USED, RETAINED = 0, 1, 2  # state of a page: the upper two bits of its byte in the table, above log2 of its size
NO_ROOT: Final = 2**64 - 1

UNIT_BYTES: Final = MIN_PAGE_BYTES
HEADER_BYTES: Final = 4096
RECORD_OFFSETS: Final = (0, 2048)
HEAD_ALIGN: Final = 65536  # the pages begin at a multiple of any OS page, so that they can be mapped apart
RECORD: Final = Struct("=8sIIIIQQQQQII")


@dataclass(frozen=True)
class Header:
    """One record of the header, in the order of its fields."""

    magic: bytes = MAGIC
    byte_order: int = BYTE_ORDER
    version: int = VERSION
    state: int = OPEN
    writer: int = 0  # process that has it open
    sequence: int = 0  # counts the records written
    size: int = 0  # bytes of pages there are
    max_size: int = 0  # bytes of pages there may be
    align: int = 0  # addresses of pages are offsets + a multiple of this
    root: int = NO_ROOT  # the client's: offset of what it wants to find again
    table_crc: int = 0  # of the table, while clean
    crc: int = 0  # of this record up to here

    @property
    def head_bytes(self) -> int:
        """Header and table: where in the file the pages begin."""
        return -(-(HEADER_BYTES + self.max_size // UNIT_BYTES) // HEAD_ALIGN) * HEAD_ALIGN

    @property
    def table_end(self) -> int:
        """Where in the file the used part of the table ends."""
        return HEADER_BYTES + self.size // UNIT_BYTES

    def pack(self) -> bytes:
        """The record, with its CRC."""
        body = RECORD.pack(*(getattr(self, field.name) for field in fields(self)))[:-4]
        return body + crc32(body).to_bytes(4, sys.byteorder)

    def write(self, head: memoryview, **changes: Any) -> Header:
        """Writes both records with `changes`, one after the other, and returns what they say."""
        record = replace(self, sequence=self.sequence + 1, **changes).pack()
        for offset in RECORD_OFFSETS:
            head[offset : offset + RECORD.size] = record
        return Header(*RECORD.unpack(record))


def read_header(start: bytes, where: str) -> tuple[Header, bool]:
    """The newest whole record, and whether the segment is clean; InvalidPage, with the reason, if it is not ours."""
    if len(start) < HEADER_BYTES:
        raise InvalidPage(f"{where} is no segment: it ends after {len(start)} bytes, within the header")
    records = []
    for offset in RECORD_OFFSETS:
        data = start[offset : offset + RECORD.size]
        header = Header(*RECORD.unpack(data))
        if header.magic == MAGIC and header.byte_order == SWAPPED_ORDER:
            raise InvalidPage(f"{where} was written on a machine of the other byte order")
        if header.magic == MAGIC and header.byte_order == BYTE_ORDER and header.version != VERSION:
            raise InvalidPage(f"{where} has format version {header.version}: this is version {VERSION}")
        if header.magic == MAGIC and data == header.pack():
            records.append(header)
    if not records:
        if MAGIC in (start[offset : offset + len(MAGIC)] for offset in RECORD_OFFSETS):
            raise InvalidPage(f"{where} has a torn header: no record fits its checksum")
        if not any(start):
            raise InvalidPage(f"{where} has an empty header: its making was cut short; remove it")
        raise InvalidPage(f"{where} is no segment of slabmalloc: it begins with {start[:8]!r}")
    newest = max(records, key=lambda header: header.sequence)
    if newest.size % UNIT_BYTES or newest.max_size % UNIT_BYTES or not 0 < newest.size <= newest.max_size:
        raise InvalidPage(f"{where} has an impossible size: {newest.size} of at most {newest.max_size} bytes")
    return newest, records == [newest, newest] and newest.state == CLEAN


def table_byte(state: int, size: int) -> int:
    """A page's byte in the table, at its first unit; the units behind it stay 0."""
    return state << 6 | size.bit_length() - 1 if state else 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A page that the table tells of."""

    offset: int
    size: int
    state: int


def entries_of(table: bytes, where: str) -> Iterator[Entry]:
    """The pages that a table tells of, in ascending order; InvalidPage if it tells what can't be."""
    end = 0
    for match in re.finditer(rb"[^\0]", table):  # most units of a large file are free
        offset, byte = match.start() * UNIT_BYTES, table[match.start()]
        entry = Entry(offset, 1 << (byte & 63), byte >> 6)
        if entry.state not in (USED, RETAINED) or not UNIT_BYTES <= entry.size <= MAX_PAGE_BYTES:
            raise InvalidPage(f"{where} has a torn page table: byte {byte:#x} at offset {offset:#x} means nothing")
        if offset % entry.size or offset < end or offset + entry.size > len(table) * UNIT_BYTES:
            raise InvalidPage(
                f"{where} has a torn page table: no page of {entry.size} bytes can be at offset {offset:#x}"
            )
        end = offset + entry.size
        yield entry


def live_objects(page: Page) -> int | None:
    """Live objects of the slab that a page carries; None if it carries none; InvalidPage if the slab is torn."""
    carried = carried_by(page)
    if carried is None:
        if TRAILER.unpack(page.buffer[-TRAILER.size :])[0] == SLAB_MAGIC:
            raise InvalidPage(f"{page!r} carries a torn slab: its trailer does not fit its check")
        return None
    object_bytes, capacity = carried
    if not object_bytes or not capacity or slab_geometry(object_bytes, page.SIZE).capacity != capacity:
        raise InvalidPage(f"{page!r} carries a torn slab: {capacity} objects of {object_bytes} bytes can't be on it")
    words = bitset_words(capacity)
    sets = page.buffer[-TRAILER.size - 16 * words : -TRAILER.size].cast("Q")
    free = 0
    bits = capacity
    for local, remote in zip(sets, sets[words:], strict=False):
        if bits <= 0:
            break  # the words behind are summaries
        if local & remote or (local | remote) >> min(bits, WORD_BITS):
            raise InvalidPage(f"{page!r} carries a torn slab: its bitmaps contradict each other, or have too many bits")
        free += (local | remote).bit_count()
        bits -= WORD_BITS
    return capacity - free
