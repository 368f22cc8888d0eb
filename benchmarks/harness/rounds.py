# SPDX-License-Identifier: MIT
"""Measurements in fresh processes, taken in turns, and what is made of them.

A round runs every side of a row once; the next round starts with another side. A ratio is taken within a round, where
both sides saw the same machine; the median over the rounds is the figure, and the quartiles say how far to trust it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.rows import BEST, Bar, HandleRow, Row
from harness.sides import GLIBC, Side

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

AnySide = TypeVar("AnySide")

Figures = dict[str, list[float]]
"""Per side (or statement): one number per round."""


@dataclass(frozen=True)
class Settings:
    """How long to measure: rounds, and in each process slices of so many milliseconds, of which the median counts."""

    rounds: int
    slices: int
    slice_ms: int


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles of a ratio over the rounds, and the peer that it was taken against."""

    median: float
    low: float
    high: float
    against: str


@dataclass
class RowResult:
    """All that was seen of one row: `ns` per side and round; `raw` as the programs printed it."""

    row: Row
    peers: list[str]
    ns: Figures = field(default_factory=dict)
    raw: list[dict[str, Any]] = field(default_factory=list)

    def memory(self, side: str, numerator: Sequence[str], denominator: str) -> list[float]:
        """Per round: sum of the `numerator` members over the `denominator` member of what `side` said of its memory."""
        seen = [record["memory"] for record in self.raw if record["side"] == side]
        return [sum(memory[name] for name in numerator) / memory[denominator] for memory in seen]


def measure_row(row: Row, ours: list[Side], peers: list[Side], programs: Path, settings: Settings) -> RowResult:
    """Run all sides of `row` in turns. SystemExit if a program fails or a preload did not take effect."""
    result = RowResult(row, [peer.name for peer in peers])
    sides = [*ours, *peers]
    for number, side in in_turns(sides, settings.rounds):
        record = _run(row, side, programs, settings, seed=number + 1)
        result.raw.append({"round": number, "side": side.name, **record})
        result.ns.setdefault(side.name, []).append(statistics.median(record["ns"]))
    return result


def in_turns(sides: Sequence[AnySide], rounds: int) -> Iterator[tuple[int, AnySide]]:
    """The number of the round, and a side: each once a round, and another one first in the next."""
    for number in range(rounds):
        first = number % len(sides)
        for side in (*sides[first:], *sides[:first]):
            yield number, side


def _run(row: Row, side: Side, programs: Path, settings: Settings, seed: int) -> dict[str, Any]:
    words = [str(programs / side.program), row.workload, str(row.size), f"seed={seed}", *side.words]
    words += [f"slices={settings.slices}", f"slice_ms={settings.slice_ms}"]
    done = subprocess.run(words, env=side.environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{side.name}, {row.name}: exit {done.returncode}\n{done.stderr}")
    record: dict[str, Any] = json.loads(done.stdout)
    if side.preload and not Path(side.preload).name.startswith(record["served_by"].split(".so")[0]):
        raise SystemExit(f"{side.name}: malloc comes from {record['served_by']}, not from {side.preload}")
    return record


def measure_handles(rows: Sequence[HandleRow], settings: Settings) -> tuple[Figures, dict[str, str]]:
    """Nanoseconds per statement and process, and why a statement was left out. One fresh interpreter per round."""
    worker = Path(__file__).resolve().parent.parent / "python_handles.py"
    figures: Figures = {}
    skipped: dict[str, str] = {}
    for number in range(settings.rounds):
        words = [sys.executable, str(worker), str(settings.slices), str(settings.slice_ms), str(number)]
        done = subprocess.run([*words, *(row.name for row in rows)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{worker.name}: exit {done.returncode}\n{done.stderr}")
        record = json.loads(done.stdout)
        skipped.update(record["skipped"])
        for name, ns in record["ns"].items():
            figures.setdefault(name, []).append(ns)
    return figures, skipped


def spread(values: Sequence[float], against: str) -> Ratio:
    """Median and quartiles of `values`."""
    if len(values) < 2:
        return Ratio(values[0], values[0], values[0], against)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Ratio(median, low, high, against)


def ratio_to(ns: Figures, side: str, bar: Bar, peers: Sequence[str]) -> Ratio | None:
    """The ratio that `bar` limits; None if the peer that it names was not measured."""
    if bar.against is None:
        return spread(ns[side], "")
    names = [name for name in peers if name != GLIBC] if bar.against == BEST else [bar.against]
    ratios = [spread([a / b for a, b in zip(ns[side], ns[name], strict=True)], name) for name in names if name in ns]
    return max(ratios, key=lambda ratio: ratio.median, default=None)
