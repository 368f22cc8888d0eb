# SPDX-License-Identifier: MIT
"""Statements that use the library, and what Python has in its place (floor 6); one fresh interpreter measures them.

Every statement is compiled by `timeit`, whose loop is the same for all of them; the clock is the thread's own. They
take turns, slice by slice, and the median of each one's slices counts. `measure` starts this file as a program:
``python -m slabmalloc.bench.statements SLICES SLICE_MS ROUND NAME...``, which prints
{"ns": {name: ns per object}, "skipped": {name: why}}.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import timeit
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .children import LIMIT_SECONDS, run
from .commands import clean_environment
from .figures import in_turn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["STATEMENTS", "Statement", "measure"]


@dataclass(frozen=True)
class Statement:
    """`per`: objects that a run serves; `needs`: modules that it is skipped without."""

    name: str
    code: str
    setup: str = ""
    per: int = 1
    needs: str = ""
    teardown: str = ""


_ZONE = "import slabmalloc; zone = slabmalloc.ZoneAllocator(slabmalloc.MmapPager()); kept = {kept}"
_LAYOUT = _ZONE.format(kept="zone.allocate(layout := slabmalloc.Layout.from_size_align(64, 8))")
_SHARED = "import os, shared_allocator; peer = shared_allocator.SlabAllocator(f'bench{os.getpid()}', 64, 4096)"


def _of_zone(code: str, needs: str = "slabmalloc") -> Statement:
    return Statement(code, code, _ZONE.format(kept=code), needs=needs)


STATEMENTS: tuple[Statement, ...] = (
    Statement("bytearray(64)", "bytearray(64)"),
    Statement("bytearray(65536)", "bytearray(65536)"),
    Statement(
        "zone.allocate + deallocate, 64",
        "zone.deallocate(zone.allocate(layout), layout)",
        _LAYOUT,
        needs="slabmalloc",
    ),
    _of_zone("zone.buffer(64)"),
    _of_zone("zone.buffer(65536)"),
    Statement(
        "allocate_many + deallocate_many, 1,000 of 64",
        "zone.deallocate_many(zone.allocate_many(layout, 1000), layout)",
        _LAYOUT,
        per=1000,
        needs="slabmalloc",
    ),
    Statement("a list of 1,000 bytearray(64)", "[bytearray(64) for _ in range(1000)]", per=1000),
    _of_zone("zone.array(8, 'f8')", needs="slabmalloc numpy"),
    Statement("np.empty(64, 'u1')", "empty(64, 'u1')", "from numpy import empty", needs="numpy"),
    Statement("np.empty(8, 'f8')", "empty(8, 'f8')", "from numpy import empty", needs="numpy"),
    Statement("np.empty(65536, 'u1')", "empty(65536, 'u1')", "from numpy import empty", needs="numpy"),
    Statement(
        "pyarrow.allocate_buffer(64)", "make(64)", "from pyarrow import allocate_buffer as make", needs="pyarrow"
    ),
    Statement(
        "pyarrow.allocate_buffer(65536)", "make(65536)", "from pyarrow import allocate_buffer as make", needs="pyarrow"
    ),
    Statement("ctypes.create_string_buffer(64)", "make(64)", "from ctypes import create_string_buffer as make"),
    Statement("ctypes.create_string_buffer(65536)", "make(65536)", "from ctypes import create_string_buffer as make"),
    Statement(
        "multiprocessing.heap malloc + free, 64",
        "heap.free(heap.malloc(64))",
        "from multiprocessing.heap import Heap; heap = Heap(); kept = heap.malloc(64)",
    ),
    Statement(
        "shared-allocator allocate + free, 64",
        "peer.free(peer.allocate(64))",
        _SHARED,
        needs="shared_allocator",
        teardown="peer.close(); peer.unlink()",
    ),
    Statement("mmap(-1, 4096) + close", "mmap(-1, 4096).close()", "from mmap import mmap"),
)


def measure(
    names: Sequence[str], slices: int, slice_ms: int, number: int, limit_seconds: float = LIMIT_SECONDS
) -> tuple[dict[str, float], dict[str, str]]:
    """Nanoseconds per object of each statement, in round `number`, and why statements were skipped. Raises `Failed`."""
    words = [sys.executable, "-m", __name__, str(slices), str(slice_ms), str(number), *names]
    record = run(words, clean_environment(), limit_seconds)
    return record["ns"], record["skipped"]


class _Prepared:
    """A statement made ready: its timer, and how many runs make a slice."""

    def __init__(self, statement: Statement, slice_s: float) -> None:
        self.statement = statement
        self.scope: dict[str, Any] = {}
        exec(statement.setup, self.scope)
        names = [name for name in self.scope if not name.startswith("__")]
        # Names of the setup become locals of the timed function, as they would be in a program's own loop.
        self.timer = timeit.Timer(
            statement.code,
            "; ".join(f"{name} = {name}_" for name in names) or "pass",
            timer=time.thread_time,
            globals={f"{name}_": self.scope[name] for name in names},
        )
        self.runs = 1
        while (spent := self.timer.timeit(self.runs)) < slice_s / 2:
            self.runs = max(self.runs + 1, min(self.runs * 8, int(self.runs * slice_s / max(spent, 1e-9))))
        self.ns: list[float] = []

    def run_slice(self) -> None:
        """One slice: nanoseconds per object."""
        self.ns.append(self.timer.timeit(self.runs) / self.runs / self.statement.per * 1e9)

    def close(self) -> None:
        """What the statement wants done at the end."""
        exec(self.statement.teardown, self.scope)


def _missing(statement: Statement) -> str:
    for module in statement.needs.split():
        try:
            import_module(module)
        except ImportError as error:
            return str(error)
    return ""


def _main(words: list[str]) -> None:
    slices, slice_ms, number = map(int, words[:3])
    statements = [statement for statement in STATEMENTS if statement.name in words[3:]]
    skipped = {one.name: why for one in statements if (why := _missing(one))}
    prepared = [_Prepared(one, slice_ms / 1000) for one in statements if one.name not in skipped]
    for _ in range(slices):
        for one in in_turn(prepared, number):
            one.run_slice()
    for one in prepared:
        one.close()
    medians = {one.statement.name: statistics.median(one.ns) for one in prepared}
    print(json.dumps({"ns": medians, "skipped": skipped}))


if __name__ == "__main__":
    _main(sys.argv[1:])
