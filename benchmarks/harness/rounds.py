# SPDX-License-Identifier: MIT
"""Rows in C and statements in Python, measured in fresh processes, in turns (`slabmalloc.bench.figures`)."""

from __future__ import annotations

import json
import statistics
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.rows import BEST, Bar, Row
from harness.sides import GLIBC, Side
from slabmalloc.bench import statements
from slabmalloc.bench.figures import Spread, in_turn, spread
from slabmalloc.bench.peers import HARDENED_PEERS

if TYPE_CHECKING:
    from collections.abc import Sequence

Figures = dict[str, list[float]]
"""Per side (or statement): one number per round."""


@dataclass(frozen=True)
class Settings:
    """How long to measure: rounds, and in each process slices of so many milliseconds, of which the median counts."""

    rounds: int
    slices: int
    slice_ms: int


@dataclass
class RowResult:
    """All that was seen of one row: `ns` per side and round; `raw` as the programs printed it; why sides failed."""

    row: Row
    peers: list[str]
    ns: Figures = field(default_factory=dict)
    raw: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def memory(self, side: str, numerator: Sequence[str], denominator: str) -> list[float]:
        """Per round: sum of the `numerator` members over the `denominator` member of what `side` said of its memory."""
        seen = [record["memory"] for record in self.raw if record["side"] == side]
        return [sum(memory[name] for name in numerator) / memory[denominator] for memory in seen]


class ProgramFailed(Exception):
    """Its exit status and what it said."""


def measure_row(row: Row, ours: list[Side], peers: list[Side], programs: Path, settings: Settings) -> RowResult:
    """Run all sides of `row` in turns. SystemExit if a program fails that may not, or a preload did not take effect."""
    result = RowResult(row, [peer.name for peer in peers])
    sides = [*ours, *peers]
    turns = [(number, side) for number in range(settings.rounds) for side in in_turn(sides, number)]
    for number, side in turns:
        if side.name in result.failed:
            continue
        try:
            record = _run(row, side, programs, settings, seed=number + 1)
        except ProgramFailed as failure:
            if not side.may_fail:
                raise SystemExit(f"{side.name}, {row.name}: {failure}") from None
            result.failed[side.name] = str(failure)
            result.ns.pop(side.name, None)
            continue
        result.raw.append({"round": number, "side": side.name, **record})
        result.ns.setdefault(side.name, []).append(statistics.median(record["ns"]))
    return result


def _run(row: Row, side: Side, programs: Path, settings: Settings, seed: int) -> dict[str, Any]:
    words = [str(programs / side.program), row.workload, str(row.size), f"seed={seed}", *side.words]
    words += [f"slices={settings.slices}", f"slice_ms={settings.slice_ms}"]
    done = subprocess.run(words, env=side.environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ProgramFailed(f"exit {done.returncode} {done.stderr}".strip())
    record: dict[str, Any] = json.loads(done.stdout)
    if side.preload and not Path(side.preload).name.startswith(record["served_by"].split(".so")[0]):
        raise SystemExit(f"{side.name}: malloc comes from {record['served_by']}, not from {side.preload}")
    return record


def measure_statements(names: Sequence[str], settings: Settings) -> tuple[Figures, dict[str, str]]:
    """Nanoseconds per statement and process, and why a statement was left out. One fresh interpreter per round."""
    figures: Figures = {}
    skipped: dict[str, str] = {}
    for number in range(settings.rounds):
        ns, why = statements.measure(names, settings.slices, settings.slice_ms, number)
        skipped.update(why)
        for name, value in ns.items():
            figures.setdefault(name, []).append(value)
    return figures, skipped


def ratio_to(ns: Figures, side: str, bar: Bar, peers: Sequence[str]) -> Spread | None:
    """The ratio that `bar` limits; None if the peer that it names was not measured."""
    if bar.against is None:
        return spread(ns[side], "")
    names = [name for name in peers if name not in (GLIBC, *HARDENED_PEERS)] if bar.against == BEST else [bar.against]
    ratios = [spread([a / b for a, b in zip(ns[side], ns[name], strict=True)], name) for name in names if name in ns]
    return max(ratios, key=lambda ratio: ratio.median, default=None)
