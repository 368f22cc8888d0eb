# SPDX-License-Identifier: MIT
"""One interpreter's worth of the Python rows: `run.py` starts this file once per round.

Every statement is compiled by `timeit`, whose loop is the same for all of them; the clock is the thread's own. They
take turns, slice by slice, and the median of each one's slices is printed as JSON: {"ns": {name: ns per object},
"skipped": {name: why}}.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import timeit
from importlib import import_module

from harness.rows import HANDLE_ROWS, HandleRow


class Statement:
    """A row made ready: its timer, and how many runs make a slice."""

    def __init__(self, row: HandleRow, slice_s: float) -> None:
        self.row = row
        self.scope: dict[str, object] = {}
        exec(row.setup, self.scope)
        names = [name for name in self.scope if not name.startswith("__")]
        # Names of the setup become locals of the timed function, as they would be in a program's own loop.
        self.timer = timeit.Timer(
            row.statement,
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
        self.ns.append(self.timer.timeit(self.runs) / self.runs / self.row.per * 1e9)

    def close(self) -> None:
        """What the row wants done at the end."""
        exec(self.row.teardown, self.scope)


def _missing(row: HandleRow) -> str:
    for module in row.needs.split():
        try:
            import_module(module)
        except ImportError as error:
            return str(error)
    return ""


def main() -> None:
    """`python_handles.py SLICES SLICE_MS ROUND NAME...`"""
    slices, slice_ms, round_number = (int(word) for word in sys.argv[1:4])
    rows = [row for row in HANDLE_ROWS if row.name in sys.argv[4:]]
    skipped = {row.name: why for row in rows if (why := _missing(row))}
    statements = [Statement(row, slice_ms / 1000) for row in rows if row.name not in skipped]
    first = round_number % max(len(statements), 1)
    for _ in range(slices):
        for statement in statements[first:] + statements[:first]:
            statement.run_slice()
    for statement in statements:
        statement.close()
    print(json.dumps({"ns": {s.row.name: statistics.median(s.ns) for s in statements}, "skipped": skipped}))


if __name__ == "__main__":
    main()
