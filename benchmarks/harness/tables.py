# SPDX-License-Identifier: MIT
"""What whole programs came to, as tables of all sides, and as our lines with their bars."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from harness import report
from slabmalloc.bench.commands import IN_PROCESS, OURS, STOCK
from slabmalloc.bench.figures import short, spread
from slabmalloc.bench.tables import table
from slabmalloc.bench.tasks import ABOVE, ALONE, Measure

if TYPE_CHECKING:
    from slabmalloc.bench.comparison import SectionResult, TaskResult


def lines(result: SectionResult, prefix: str) -> list[report.Line]:
    """Our sides line by line, the bars on the first; then their means over the section."""
    found = []
    for task in result.tasks:
        for measure in task.task.measures:
            row = prefix + ": ".join(filter(None, (task.task.name, measure.title)))
            for side in (OURS, IN_PROCESS):
                found += _task_lines(task, measure, row, side)
    for measure in (measure for measure in _measures(result) if measure.mean):
        for side in (OURS, IN_PROCESS):
            ratios, count = result.means(side, measure)
            if not ratios:
                continue
            limit = measure.mean_limit if side == OURS else None
            row = f"{prefix}geometric mean of {count}: {measure.title}"
            found.append(report.Line(row, side, "", STOCK, spread(ratios, STOCK), limit))
    return found


def _task_lines(task: TaskResult, measure: Measure, row: str, side: str) -> list[report.Line]:
    found = []
    for against in measure.against:
        compared = list(task.compared(side, measure, against).values())
        if not compared:
            continue
        other = measure.of or f"{against} {_median(task.values(against, measure), measure.unit)}"
        bound = side == OURS and against == measure.against[0]
        figure = _median(task.values(side, measure), measure.unit)
        ratio = spread(compared, against)
        found.append(report.Line(row, side, figure, other, ratio, measure.limit if bound else None))
    return found


def tables(result: SectionResult, prefix: str) -> str:
    """What every side came to: stock in full, the others as ratio to it (or difference, or figure)."""
    measures = _measures(result)
    groups = measures if measures[0].mean else [None]
    return "\n\n".join(_table(result, prefix, measure) for measure in groups)


def _table(result: SectionResult, prefix: str, only: Measure | None) -> str:
    """One measure of all tasks with its mean, or all measures of all tasks."""
    body = []
    for task in result.tasks:
        for measure in [only] if only else task.task.measures:
            name = ": ".join(filter(None, (task.task.name, "" if only else measure.title)))
            body.append([name, *(_cell(task, measure, side) for side in result.sides)])
    if only:
        means = [result.means(side, only)[0] for side in result.sides if side != STOCK]
        body.append(["geometric mean", "", *(f"{statistics.median(mean):.3f}" if mean else "" for mean in means)])
    title = prefix + result.section.name + (f": {only.title}" if only else "")
    return table([title, *result.sides], body)


def _cell(task: TaskResult, measure: Measure, side: str) -> str:
    if side in task.failed:
        return "failed"
    values = task.compared(side, measure)
    if side == STOCK or measure.kind == ALONE:
        return _median(task.values(side, measure), measure.unit)
    if not values:
        return ""
    median = statistics.median(values.values())
    return f"{median:+.1f} {measure.unit}" if measure.kind == ABOVE else f"{median:.3f}"


def _measures(result: SectionResult) -> list[Measure]:
    return list(dict.fromkeys(measure for task in result.section.tasks for measure in task.measures))


def _median(values: dict[int, float], unit: str) -> str:
    if not values:
        return ""
    return short(statistics.median(values.values()), unit)


def failures(result: SectionResult, prefix: str) -> list[str]:
    """What failed, a line each."""
    return [
        f"failed: {prefix}{result.section.name}, {task.task.name}: {side}: {why}"
        for task in result.tasks
        for side, why in task.failed.items()
    ]
