# SPDX-License-Identifier: MIT
"""What the tests of files and shared memory share: objects to put in, damage to do, a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from forms import EXPECTED_WARNING
from slabmalloc import reference
from slabmalloc.errors import OutOfMemory
from slabmalloc.pagers import FilePager
from slabmalloc.pagers.segment import (
    HEADER_BYTES,
    RECORD,
    RECORD_OFFSETS,
    Header,
    read_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SMALL = reference.Layout.from_size_align(64, 8)
SIZES = (24, 64, 200, 5000, 70_000)
Made = TypeVar("Made")


def write_at(address: int, data: bytes) -> None:
    import ctypes

    ctypes.memmove(address, data, len(data))


def read_at(address: int, size: int) -> bytes:
    import ctypes

    return ctypes.string_at(address, size)


def until_refused(make: Callable[[], Made], reason: str) -> list[Made]:
    """What `make` makes until it raises OutOfMemory for this reason."""
    made: list[Made] = []
    with pytest.raises(OutOfMemory, match=reason):
        made.extend(iter(make, None))  # keeps what came before the error
    return made


def fill(api: ModuleType, path: Path, count: int = 300) -> dict[int, bytes]:
    """Makes a file with objects of several sizes, every third freed again: offset -> contents of those that stay."""
    kept: dict[int, bytes] = {}
    with FilePager(path, max_size=64 * MIB) as pager, api.ZoneAllocator(pager) as zone:
        for i in range(count):
            size = SIZES[i % len(SIZES)]
            layout = api.Layout.from_size_align(size, 8)
            address = zone.allocate(layout)
            contents = f"object {i} of {size} bytes".encode().ljust(size, b".")[:size]
            write_at(address, contents)
            if i % 3:
                kept[pager.offset_of(address)] = contents
            else:
                zone.deallocate(address, layout)
    return kept


def run(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A Python of its own that runs `code`."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-W", EXPECTED_WARNING, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def corrupt_header(path: Path, records: tuple[int, ...] = RECORD_OFFSETS, **changes: Any) -> None:
    """Rewrites records of the header with other fields, and with the CRC that fits."""
    data = bytearray(path.read_bytes())
    for offset in records:
        header = Header(*RECORD.unpack(data[offset : offset + RECORD.size]))
        data[offset : offset + RECORD.size] = replace(header, **changes).pack()
    path.write_bytes(data)


def flip(path: Path, position: int, mask: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


def head_bytes(path: Path) -> int:
    return read_header(path.read_bytes()[:HEADER_BYTES], "")[0].head_bytes
