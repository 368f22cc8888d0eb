# SPDX-License-Identifier: MIT
"""The demonstration: one program in fresh processes, on the stock allocator, on slabmalloc and on its peers, by turns.

The program is ast_index.py, the same file everywhere. `slabmalloc run` preloads slabmalloc, which then serves CPython's
objects, NumPy's data and `malloc`. jemalloc, mimalloc and tcmalloc, where the dynamic linker finds them, are preloaded
with their own defaults, and CPython is told to ask `malloc` for everything (PYTHONMALLOC=malloc). Prints one table and
writes one picture, in less than two minutes: what the time does not suffice for is left out, and named. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chart import Line, line_chart
from watch import Run, watch

HERE = Path(__file__).resolve().parent
PROGRAM = HERE / "ast_index.py"
STOCK, SLABMALLOC = "stock", "slabmalloc"
PEERS = {"jemalloc": "jemalloc", "mimalloc": "mimalloc", "tcmalloc": "tcmalloc_minimal"}
"""The libraries, by the names that the table has for them."""

COLORS = {
    STOCK: "#5b6475",
    SLABMALLOC: "#0e7490",
    "jemalloc": "#c2410c",
    "mimalloc": "#7c3aed",
    "tcmalloc": "#a16207",
}


@dataclass
class Side:
    """An allocator: how a Python program is started on it, its runs, and what it said of itself at the end of one."""

    name: str
    options: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def command(self, *program: str) -> list[str]:
        """The command that runs `program`."""
        return [sys.executable, *self.options, *program]

    def environment(self) -> dict[str, str]:
        """Ours, less what would choose an allocator, and with what this one needs."""
        chosen = ("LD_PRELOAD", "PYTHONMALLOC", "SLABMALLOC")
        return {name: value for name, value in os.environ.items() if not name.startswith(chosen)} | self.variables

    def median(self, key: str) -> float:
        """Of a figure, over the runs."""
        return float(statistics.median(getattr(run, key) for run in self.runs))

    @property
    def longest(self) -> float:
        """Seconds of the longest run; 0 without any."""
        return max((run.phases[-1][0] for run in self.runs), default=0.0)


def main() -> int:
    """Runs by turns, then the table and the picture; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="of stock and of slabmalloc, at most (default: 3)")
    parser.add_argument("--seconds", type=float, default=110, help="start nothing that may last longer (default: 110)")
    parser.add_argument("--output", type=Path, default=HERE.parent / "build" / "demo-memory.svg", help="the picture")
    options = parser.parse_args()
    if not Path("/proc/self/smaps_rollup").exists():
        print("the demo watches memory through /proc/PID/smaps_rollup, and this system has none", file=sys.stderr)
        return 1

    with tempfile.TemporaryDirectory() as folder:
        summary = Path(folder, "summary.json")
        slab = Side(SLABMALLOC, ["-m", "slabmalloc", "run", "--json", f"--summary={summary}"])
        sides = [Side(STOCK), slab, *filter(is_in_effect, map(peer, PEERS))]
        measure(sides, options.runs, options.seconds)
        slab.summary = json.loads(summary.read_text(encoding="utf-8"))
    left_out = [name for name in PEERS if name not in [side.name for side in sides]]
    late = [side.name for side in sides if not side.runs]
    sides = [side for side in sides if side.runs]

    print(table(sides))
    if left_out:
        print(f"left out, for lack of the library: {', '.join(left_out)}")
    if late:
        print(f"no time left for: {', '.join(late)} (--seconds)")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(picture(sides), encoding="utf-8")
    print(f"memory over time: {options.output}")
    return 0


def peer(name: str) -> Side:
    """Another allocator, in the place of `malloc`; without a library if there is none."""
    library = ctypes.util.find_library(PEERS[name])
    return Side(name, variables={"LD_PRELOAD": library, "PYTHONMALLOC": "malloc"} if library else {})


def is_in_effect(side: Side) -> bool:
    """Is the peer's library found, and does a Python program really run on it? The dynamic linker only warns."""
    if not side.variables:
        return False
    look = f"import sys; sys.exit('lib{PEERS[side.name]}' not in open('/proc/self/maps').read())"
    command = side.command("-c", look)
    return subprocess.run(command, env=side.environment(), stderr=subprocess.DEVNULL, check=False).returncode == 0


def measure(sides: list[Side], runs: int, seconds: float) -> None:
    """Every side once, then stock and slabmalloc again and again; what may last too long is not begun."""
    pair, peers = sides[:2], sides[2:]
    begin = time.monotonic()
    for turn in [pair, *([side] for side in peers), *[pair] * (runs - 1)]:
        # A peer's first run is expected to take as long as the longest so far.
        expected = sum(side.longest or max(side.longest for side in sides) for side in turn)
        if pair[0].runs and time.monotonic() - begin + expected > seconds:
            continue
        for side in turn:
            print(f"run {len(side.runs) + 1} on {side.name} ...", file=sys.stderr, flush=True)
            try:
                side.runs.append(watch(side.command(str(PROGRAM)), side.environment()))
            except RuntimeError as error:
                raise SystemExit(f"the program failed on {side.name}: {error}") from None


ROWS = (
    ("time until the rest is released", "s", "work_seconds"),
    ("peak memory", "MiB", "peak"),
    ("memory after release", "MiB", "after_release"),
)


def table(sides: list[Side]) -> str:
    """What was measured, as text: medians over the runs, and the ratio of each to stock."""
    stock, slab = sides[:2]
    lines = [
        "",
        *(f"  {text}" for _, text in slab.runs[-1].phases),
        "",
        f"  {'median (ratio to stock)':<36}{STOCK:>9}" + "".join(f"{side.name:>15}" for side in sides[1:]),
        f"  {'runs':<36}{len(stock.runs):>9}" + "".join(f"{len(side.runs):>15}" for side in sides[1:]),
    ]
    for title, unit, key in ROWS:
        base, digits = stock.median(key), 2 if unit == "s" else 0
        values = ((side.median(key), side.median(key) / base) for side in sides[1:])
        cells = "".join(f"{value:>8.{digits}f} ({ratio:.2f})" for value, ratio in values)
        lines.append(f"  {title + ', ' + unit:<36}{base:>9.{digits}f}{cells}")
    lines += ["", *(f"  {text}" for text in account(slab.summary)), ""]
    return "\n".join(lines)


def account(summary: dict[str, Any]) -> list[str]:
    """What slabmalloc says it did."""
    served = [
        f"{name} {row['served_blocks']:,} ({row['served_bytes'] >> 20:,} MiB)"
        for name, row in summary["domains"].items()
    ]
    mapped, back = summary["peak_mapped_bytes"] >> 20, summary["given_back_bytes"] >> 20
    return [
        f"slabmalloc served blocks: {', '.join(served)};",
        f"it had mapped up to {mapped:,} MiB and gave {back:,} MiB back to the system (some of it more than once)",
    ]


def picture(sides: list[Side]) -> str:
    """The chart of one run of each, the one of median time (of two the quicker)."""
    return line_chart(
        [line_of(side) for side in sides],
        "Build much, keep little: where the memory goes",
        "Syntax trees of the standard library; one named node in fifty is kept (ring), then queries are answered",
        "s",
        "MiB",
    )


def line_of(side: Side) -> Line:
    """A run as a line, with a ring where the program let go of the rest."""
    run = sorted(side.runs, key=lambda run: run.work_seconds)[(len(side.runs) - 1) // 2]
    width = 3.4 if side.name == SLABMALLOC else 2.0
    return Line(side.name, COLORS[side.name], run.memory, [(run.work_seconds, "")], width)


if __name__ == "__main__":
    sys.exit(main())
