# SPDX-License-Identifier: MIT
"""The demonstration: one program in fresh processes, on the stock allocator and on slabmalloc, by turns.

The program is ast_index.py, the same file in both. Its memory is watched from outside: the proportional share of
physical memory (PSS) in /proc/PID/smaps_rollup, ten times a second. Prints one table and writes one picture. Linux
only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from chart import Line, line_chart

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).resolve().parent
PROGRAM = HERE / "ast_index.py"
SAMPLE_SECONDS = 0.1
COLORS = {"stock": "#7a8496", "slabmalloc": "#0e7490"}


@dataclass
class Run:
    """One process: memory over time, and when it printed what (seconds since its start, MiB)."""

    memory: list[tuple[float, float]] = field(default_factory=list)
    phases: list[tuple[float, str]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def work_seconds(self) -> float:
        """Until what was not kept is gone; the time of answering queries is the program's own choice."""
        return next(at for at, line in self.phases if line.startswith("kept"))

    @property
    def peak(self) -> float:
        """The largest of the samples."""
        return max(mebibytes for _, mebibytes in self.memory)

    @property
    def after_release(self) -> float:
        """The median of the last second."""
        end = self.memory[-1][0]
        return statistics.median(mebibytes for at, mebibytes in self.memory if at >= end - 1)


def main() -> int:
    """Runs by turns, then the table and the picture; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="processes per allocator, at most (default: 3)")
    parser.add_argument("--seconds", type=float, default=55, help="start no further pair after so long (default: 55)")
    parser.add_argument("--output", type=Path, default=HERE.parent / "build" / "demo-memory.svg", help="the picture")
    options = parser.parse_args()
    if not Path("/proc/self/smaps_rollup").exists():
        print("the demo watches memory through /proc/PID/smaps_rollup, and this system has none", file=sys.stderr)
        return 1

    runs: dict[str, list[Run]] = {"stock": [], "slabmalloc": []}
    begin = time.monotonic()
    while len(runs["stock"]) < options.runs and (not runs["stock"] or time.monotonic() - begin < options.seconds):
        for name, done in runs.items():
            print(f"run {len(done) + 1} on {name} ...", file=sys.stderr, flush=True)
            done.append(watch(name))
    print(table(runs))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(picture(runs), encoding="utf-8")
    print(f"memory over time, both runs: {options.output}")
    return 0


def watch(name: str) -> Run:
    """Runs the program on allocator `name` and watches it to its end."""
    with tempfile.TemporaryDirectory() as folder:
        summary = Path(folder, "summary.json")
        slab = ["-m", "slabmalloc", "run", "--json", f"--summary={summary}"] if name == "slabmalloc" else []
        run, start = Run(), time.monotonic()
        process = subprocess.Popen([sys.executable, *slab, str(PROGRAM)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        reader = threading.Thread(target=note_phases, args=(process.stdout, start, run))
        reader.start()
        while process.poll() is None:
            mebibytes = memory_of(process.pid)
            if mebibytes:
                run.memory.append((time.monotonic() - start, mebibytes))
            time.sleep(SAMPLE_SECONDS)
        reader.join()
        if process.returncode != 0:
            raise SystemExit(f"the program failed on {name}: exit status {process.returncode}")
        # What the interpreter tears down after the program's last line is no part of the comparison.
        run.memory = [sample for sample in run.memory if sample[0] <= run.phases[-1][0]]
        if slab:
            run.summary = json.loads(summary.read_text(encoding="utf-8"))
        return run


def note_phases(stream: IO[str], start: float, run: Run) -> None:
    """Notes each line that the program prints, and when."""
    run.phases.extend((time.monotonic() - start, line.rstrip()) for line in stream)


def memory_of(pid: int) -> float | None:
    """PSS in MiB; None once the process is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    sizes = [int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")]
    return sizes[0] / 1024 if sizes else None


ROWS = (
    ("time until the rest is released", "s", "work_seconds"),
    ("peak memory", "MiB", "peak"),
    ("memory after release", "MiB", "after_release"),
)


def table(runs: dict[str, list[Run]]) -> str:
    """What was measured, as text: medians over the runs, and slabmalloc as a share of stock."""
    stock, slab = runs["stock"], runs["slabmalloc"]
    heading = f"median of {len(stock)} run{'s' if len(stock) > 1 else ''}"
    lines = [
        "",
        *(f"  {text}" for _, text in slab[-1].phases),
        "",
        f"  {heading:<36}{'stock':>12}{'slabmalloc':>14}{'ratio':>9}",
    ]
    for title, unit, key in ROWS:
        ours, theirs = (statistics.median(getattr(run, key) for run in some) for some in (slab, stock))
        digits = 2 if unit == "s" else 0
        lines.append(f"  {title + ', ' + unit:<36}{theirs:>12.{digits}f}{ours:>14.{digits}f}{ours / theirs:>9.2f}")
    lines += ["", f"  {account(slab[-1].summary)}", ""]
    return "\n".join(lines)


def account(summary: dict[str, Any]) -> str:
    """What slabmalloc says it did, in a line."""

    def sum_of(key: str) -> int:
        return sum(row[key] for row in summary["domains"].values())

    served, passed = (
        f"{sum_of(f'{kind}_blocks'):,} blocks, {sum_of(f'{kind}_bytes') >> 20:,} MiB" for kind in ("served", "passed")
    )
    return f"slabmalloc served {served}; it passed larger ones on: {passed}"


def picture(runs: dict[str, list[Run]]) -> str:
    """The chart of one run of each, the one of median time."""
    lines = [
        line_of(name, sorted(some, key=lambda run: run.work_seconds)[len(some) // 2]) for name, some in runs.items()
    ]
    return line_chart(
        lines,
        "Build much, keep little: where the memory goes",
        "Syntax trees of the whole standard library; one named node in fifty is kept (ring), then queries are answered",
        "s",
        "MiB",
    )


def line_of(name: str, run: Run) -> Line:
    """A run as a line, with a ring where the program let go of the rest."""
    marks: Sequence[tuple[float, str]] = [(run.work_seconds, "")]
    return Line(f"{name}", COLORS[name], run.memory, marks)


if __name__ == "__main__":
    sys.exit(main())
