# SPDX-License-Identifier: MIT
"""What runs of services come to: throughput, memory, whether it is flat, a table and a figure for each service."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from slabmalloc.bench.commands import OURS, STOCK
from slabmalloc.bench.tables import table as markdown

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "examples"))
from chart import Line, line_chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.service_runs import Outcome, Service

FLAT_PERCENT = 5.0
CALM_TAIL_SECONDS = 5.0
COLORS = {STOCK: "#5b6475", OURS: "#0e7490"}


@dataclass(frozen=True)
class Figures:
    """Of one run. `drift_percent`: by how much memory rises over the second half of the load, of its mean."""

    per_second: float
    milliseconds_each: float
    mean_mib: float
    peak_mib: float
    calm_mib: float
    drift_percent: float


def figures_of(outcome: Outcome) -> Figures:
    """Mean memory is that of the second half of the load; calm is the median of the last seconds."""
    count, seconds = outcome.figures["requests"], outcome.figures["seconds"]
    middle = (outcome.load_begin + outcome.load_end) / 2
    half = [(s.at, s.mib) for s in outcome.samples if middle <= s.at <= outcome.load_end]
    mean = statistics.fmean(mib for _, mib in half)
    # The median slope of all pairs (Theil and Sen): a worker that is replaced leaves a dip, which says nothing.
    slope = statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(half, 2))
    end = outcome.samples[-1].at
    return Figures(
        count / seconds,
        1000 * outcome.processor_seconds / count,
        mean,
        max(s.mib for s in outcome.samples),
        statistics.median(s.mib for s in outcome.samples if s.at >= end - CALM_TAIL_SECONDS),
        100 * slope * (outcome.load_end - middle) / mean,
    )


def is_whole(outcome: Outcome) -> bool:
    """Nothing lost, nothing wrong; and in each sample all processes had the library, or on stock none."""
    late = 1  # a process may be seen before its dynamic linker has loaded anything
    served = all((s.processes - s.served <= late) if outcome.side == OURS else s.served == 0 for s in outcome.samples)
    return served and outcome.figures["lost"] == 0 and outcome.figures["wrong"] == 0 and outcome.checks > 0


MEASURES = (
    ("a second", "per_second", "{:.1f}"),
    ("processor time each, ms", "milliseconds_each", "{:.2f}"),
    ("memory under load, MiB", "mean_mib", "{:.0f}"),
    ("peak, MiB", "peak_mib", "{:.0f}"),
    ("memory in the calm, MiB", "calm_mib", "{:.0f}"),
)


def table(service: Service, outcomes: Sequence[Outcome]) -> str:
    """Per measure the median of each side's runs, and the ratio within rounds."""
    sides = {name: [o for o in outcomes if o.side == name] for name in (STOCK, OURS)}
    figures = {name: [figures_of(o) for o in runs] for name, runs in sides.items()}
    body = []
    for title, member, form in MEASURES:
        values = {name: [getattr(f, member) for f in found] for name, found in figures.items()}
        ratios = [ours / stock for ours, stock in zip(values[OURS], values[STOCK], strict=True)]
        name = f"{service.unit} {title}" if title == "a second" else title
        medians = [form.format(statistics.median(values[side])) for side in (STOCK, OURS)]
        body.append([name, *medians, f"{statistics.median(ratios):.3f}", _spread(ratios)])
    drifts = {side: [f.drift_percent for f in figures[side]] for side in (STOCK, OURS)}
    told = [", ".join(f"{drift:+.1f} %" for drift in drifts[side]) for side in (STOCK, OURS)]
    body.append(["rise over the second half", *told, "flat" if max(drifts[OURS]) < FLAT_PERCENT else "not flat", ""])
    counts = [f"{sum(o.figures['requests'] for o in sides[side]):,.0f}" for side in (STOCK, OURS)]
    body.append([f"{service.unit} answered", *counts, "", ""])
    losses = [f"{sum(o.figures['lost'] + o.figures['wrong'] for o in sides[side]):.0f}" for side in (STOCK, OURS)]
    body.append(["lost or wrong", *losses, "", ""])
    return markdown([service.name, STOCK, OURS, "ratio", "of the rounds"], body)


def _spread(ratios: Sequence[float]) -> str:
    return ", ".join(f"{ratio:.3f}" for ratio in ratios)


def figure(service: Service, outcomes: Sequence[Outcome]) -> str:
    """Memory over time of the first round, a ring where the load ends; in words, medians over all rounds."""
    lines = []
    for name, width in ((STOCK, 2.0), (OURS, 3.0)):
        first = next(o for o in outcomes if o.side == name)
        begin = first.load_begin
        points = [(s.at - begin, s.mib) for s in first.samples if s.at >= begin]
        lines.append(Line(name, COLORS[name], points, [(first.load_end - begin, "")], width))
    found = {name: [figures_of(o) for o in outcomes if o.side == name] for name in (STOCK, OURS)}
    rates, each = (
        [_number(statistics.median(getattr(f, member) for f in found[name])) for name in (STOCK, OURS)]
        for member in ("per_second", "milliseconds_each")
    )
    subtitle = (
        f"{service.unit.capitalize()} a second: {rates[0]} on stock, {rates[1]} on slabmalloc; "
        f"processor time of each: {each[0]} and {each[1]} ms. Ring: the load ends"
    )
    return line_chart(lines, service.title, subtitle, "s", "MiB")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
