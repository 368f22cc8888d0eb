# SPDX-License-Identifier: MIT
"""What is measured, and the bar that it is held to: one `Row` per line of the question.

A bar is an upper limit on a ratio of times, ours over a peer's, or on a figure of our own. The first of a row's own
sides is held to the bars; the others stand beside it to show what a choice costs.
"""

from __future__ import annotations

from dataclasses import dataclass

from slabmalloc.bench.peers import HARDENED_MALLOC

BEST = "best peer"
"""As a bar's `against`: every peer at once but the C library and the hardened ones, so the one that leaves us the worst
ratio decides."""


@dataclass(frozen=True)
class Bar:
    """`figure of ours / figure of against <= limit`; with `against=None`, `figure of ours <= limit`."""

    against: str | None
    limit: float


@dataclass(frozen=True)
class Row:
    """One C workload. `ours` are names of our sides; `bars` bind the first of them. `hardened` is one more, for the
    hardened peers alone.
    """

    name: str
    workload: str
    size: int
    ours: tuple[str, ...]
    bars: tuple[Bar, ...]
    hardened: str = ""


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
            *(workload, size, ("malloc",), bars, "malloc, hardened"),
        )
        for workload, size in workloads
    )


C_ROWS = _c_rows()
MALLOC_ROWS = _malloc_rows()

HARDENED_MEAN_BAR = Bar(HARDENED_MALLOC, 0.50)
"""Of the hardened `malloc`: the geometric mean over the rows."""

MAPPED_LIMIT = 1.05
"""The row `live` also says what it maps; mapped and bookkeeping bytes over live bytes after class rounding."""


STATEMENT_BARS = {
    "zone.allocate + deallocate, 64": Bar("bytearray(64)", 1.2),
    "zone.buffer(64)": Bar("bytearray(64)", 1.0),
    "zone.buffer(65536)": Bar("bytearray(65536)", 0.15),
    "allocate_many + deallocate_many, 1,000 of 64": Bar(None, 10.0),
}
"""Of the statements in `slabmalloc.bench.statements`."""
