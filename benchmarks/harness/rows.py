# SPDX-License-Identifier: MIT
"""What is measured, and the bar that it is held to: one `Row` per line of the question.

A bar is an upper limit on a ratio of times, ours over a peer's, or on a figure of our own. The first of a row's own
sides is held to the bars; the others stand beside it to show what a choice costs.
"""

from __future__ import annotations

from dataclasses import dataclass

BEST = "best peer"
"""As a bar's `against`: every peer at once but the C library, so the one that leaves us the worst ratio decides."""


@dataclass(frozen=True)
class Bar:
    """`figure of ours / figure of against <= limit`; with `against=None`, `figure of ours <= limit`."""

    against: str | None
    limit: float


@dataclass(frozen=True)
class Row:
    """One C workload. `ours` are names of our sides; `bars` bind the first of them."""

    name: str
    workload: str
    size: int
    ours: tuple[str, ...]
    bars: tuple[Bar, ...]


def _c_rows() -> tuple[Row, ...]:
    seed = (Bar("jemalloc", 0.60), Bar(BEST, 0.75))
    rows = [Row(f"pair {size} B, one class", "pair", size, ("class", "class, owned"), seed) for size in (8, 512)]
    by_layout = (Bar("jemalloc", 0.80),)
    rows += [
        Row(f"pair {size} B, by layout", "pair", size, ("zone", "zone, owned"), by_layout) for size in (8, 64, 512)
    ]
    level = (Bar(BEST, 1.0),)
    rows += [
        Row(f"1,000 {order} {size} B", order, size, ("zone", "zone, 64 KiB apart"), level)
        for order in ("fifo", "lifo", "random")
        for size in (64, 512)
    ]
    rows += [
        Row(f"freed by another thread {size} B", "remote", size, ("zone", "zone, 64 KiB apart"), level)
        for size in (64, 512)
    ]
    rows.append(
        Row("100,000 live", "live", 0, ("zone, 64 KiB apart", "zone, 64 KiB", "zone"), (Bar(BEST, 1.15),)),
    )
    return tuple(rows)


def _malloc_rows() -> tuple[Row, ...]:
    """The workloads that `malloc` and `free` of the preload library are held to."""
    bars = (Bar("mimalloc", 1.0), Bar(BEST, 1.15))
    workloads = [("pair", size) for size in (8, 64, 512, 4096, 32768)]
    workloads += [(order, size) for size in (64, 512) for order in ("fifo", "lifo", "random")]
    workloads += [("remote", 64), ("remote", 512), ("live", 0)]
    titles = {"pair": "pair", "remote": "freed by another thread", "live": "100,000 live"}
    return tuple(
        Row(
            f"malloc, {titles.get(workload, f'1,000 {workload}')}" + (f" {size:,} B" if size else ""),
            *(workload, size, ("malloc",), bars),
        )
        for workload, size in workloads
    )


C_ROWS = _c_rows()
MALLOC_ROWS = _malloc_rows()

MAPPED_LIMIT = 1.05
"""The row `live` also says what it maps; mapped and bookkeeping bytes over live bytes after class rounding."""


@dataclass(frozen=True)
class HandleRow:
    """One statement in Python. `per`: objects that a run serves; `needs`: modules that it is skipped without."""

    name: str
    statement: str
    setup: str = ""
    per: int = 1
    needs: str = ""
    bar: Bar | None = None
    teardown: str = ""


_ZONE = "import slabmalloc; zone = slabmalloc.ZoneAllocator(slabmalloc.MmapPager()); kept = {kept}"
_LAYOUT = _ZONE.format(kept="zone.allocate(layout := slabmalloc.Layout.from_size_align(64, 8))")
_SHARED = "import os, shared_allocator; peer = shared_allocator.SlabAllocator(f'bench{os.getpid()}', 64, 4096)"

HANDLE_ROWS: tuple[HandleRow, ...] = (
    HandleRow("bytearray(64)", "bytearray(64)"),
    HandleRow("bytearray(65536)", "bytearray(65536)"),
    HandleRow(
        "zone.allocate + deallocate, 64",
        "zone.deallocate(zone.allocate(layout), layout)",
        _LAYOUT,
        needs="slabmalloc",
        bar=Bar("bytearray(64)", 1.2),
    ),
    HandleRow(
        "zone.buffer(64)",
        "zone.buffer(64)",
        _ZONE.format(kept="zone.buffer(64)"),
        needs="slabmalloc",
        bar=Bar("bytearray(64)", 1.0),
    ),
    HandleRow(
        "zone.buffer(65536)",
        "zone.buffer(65536)",
        _ZONE.format(kept="zone.buffer(65536)"),
        needs="slabmalloc",
        bar=Bar("bytearray(65536)", 0.15),
    ),
    HandleRow(
        "allocate_many + deallocate_many, 1,000 of 64",
        "zone.deallocate_many(zone.allocate_many(layout, 1000), layout)",
        _LAYOUT,
        per=1000,
        needs="slabmalloc",
        bar=Bar(None, 10.0),
    ),
    HandleRow(
        "zone.array(8, 'f8')",
        "zone.array(8, 'f8')",
        _ZONE.format(kept="zone.array(8, 'f8')"),
        needs="slabmalloc numpy",
    ),
    HandleRow("np.empty(64, 'u1')", "empty(64, 'u1')", "from numpy import empty", needs="numpy"),
    HandleRow("np.empty(65536, 'u1')", "empty(65536, 'u1')", "from numpy import empty", needs="numpy"),
    HandleRow(
        "pyarrow.allocate_buffer(64)", "make(64)", "from pyarrow import allocate_buffer as make", needs="pyarrow"
    ),
    HandleRow(
        "pyarrow.allocate_buffer(65536)", "make(65536)", "from pyarrow import allocate_buffer as make", needs="pyarrow"
    ),
    HandleRow("ctypes.create_string_buffer(64)", "make(64)", "from ctypes import create_string_buffer as make"),
    HandleRow(
        "multiprocessing.heap malloc + free, 64",
        "heap.free(heap.malloc(64))",
        "from multiprocessing.heap import Heap; heap = Heap(); kept = heap.malloc(64)",
    ),
    HandleRow(
        "shared-allocator allocate + free, 64",
        "peer.free(peer.allocate(64))",
        _SHARED,
        needs="shared_allocator",
        teardown="peer.close(); peer.unlink()",
    ),
    HandleRow("mmap(-1, 4096) + close", "mmap(-1, 4096).close()", "from mmap import mmap"),
)
