# SPDX-License-Identifier: MIT
"""Tasks measured side by side in turns, and what is made of them: ratios within a round, means over programs, tables.

A side whose process fails is out of that task, with the reason; everything else goes on.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import children, instructions, report
from harness.commands import IN_PROCESS, OURS, STOCK, Command
from harness.rounds import in_turns, spread
from harness.tasks import ABOVE, ALONE, LAUNCH, Measure, Section, Task

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class TaskResult:
    """All that was seen of one task: the record of each process, and why sides failed."""

    task: Task
    raw: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def values(self, side: str, measure: Measure) -> dict[int, float]:
        """Per round, in the measure's unit; nothing of a side that failed."""
        if side in self.failed:
            return {}
        return {
            record["round"]: record[measure.member] * measure.factor for record in self.raw if record["side"] == side
        }

    def compared(self, side: str, measure: Measure, against: str = STOCK) -> dict[int, float]:
        """Per round what the measure compares: a ratio, a difference, or the figure itself."""
        own = self.values(side, measure)
        if measure.kind == ALONE:
            return own
        other = self.values(against, measure)
        if measure.kind == ABOVE:
            return {number: own[number] - other[number] for number in own if number in other}
        return {number: own[number] / other[number] for number in own if other.get(number)}


@dataclass
class SectionResult:
    """The tasks of a section, by one interpreter."""

    section: Section
    sides: list[str]
    tasks: list[TaskResult] = field(default_factory=list)

    def means(self, side: str, measure: Measure) -> tuple[list[float], int]:
        """Per round the geometric mean over the tasks that `side` came through with, and how many those are."""
        ratios = [found for result in self.tasks if (found := result.compared(side, measure))]
        if not ratios:
            return [], 0
        rounds = sorted(set.intersection(*map(set, ratios)))
        return [statistics.geometric_mean([found[number] for found in ratios]) for number in rounds], len(ratios)

    def record(self) -> list[dict[str, Any]]:
        """For the JSON file; the launcher's path, which the words of most tasks begin with, says nothing to others."""
        told: list[dict[str, Any]] = []
        for result in self.tasks:
            words = [Path(word).name if word == LAUNCH else word for word in result.task.words]
            task: dict[str, Any] = asdict(result.task)
            task["words"] = words
            told.append({"task": task, "raw": result.raw, "failed": result.failed})
        return told


def measure(section: Section, sides: Sequence[Command], rounds: int | None, label: str) -> SectionResult:
    """Run all tasks of a section, telling on standard error how far it is."""
    result = SectionResult(section, [side.name for side in sides])
    for number, task in enumerate(section.tasks, 1):
        print(f"[{label} {section.name} {number}/{len(section.tasks)}] {task.name}", file=sys.stderr, flush=True)
        count = 1 if section.scales else rounds or task.rounds or section.rounds
        result.tasks.append(_measure_task(task, sides, count, section.scales))
    return result


def _measure_task(task: Task, sides: Sequence[Command], rounds: int, scales: tuple[int, int] | None) -> TaskResult:
    result = TaskResult(task)
    for number, side in in_turns(list(sides), rounds):
        if side.name in result.failed:
            continue
        try:
            if scales:
                record = instructions.counted(side, lambda scale: [*task.words, str(scale)], scales)
            else:
                record = children.run([*side.words, *task.words], side.environment)
            _check(record, result)
        except children.Failed as failure:
            result.failed[side.name] = str(failure)
            print(f"  {side.name} failed: {failure}", file=sys.stderr, flush=True)
        else:
            result.raw.append({"round": number, "side": side.name, **record})
    return result


def _check(record: dict[str, Any], result: TaskResult) -> None:
    """A program computes the same on every side. Raises `Failed` if it did not, or left out what is measured."""
    absent = [measure.member for measure in result.task.measures if measure.member not in record]
    if absent:
        raise children.Failed(f"the program did not tell {', '.join(absent)}")
    if result.raw and record.get("result") != (first := result.raw[0]).get("result"):
        raise children.Failed(f"computed {record.get('result')}, and {first['side']} {first.get('result')}")


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
    return report.table([title, *result.sides], body)


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
    median = statistics.median(values.values())
    digits = 0 if abs(median) >= 1000 else 1 if abs(median) >= 10 else 3 if abs(median) < 1 else 2
    return f"{median:,.{digits}f} {unit}".strip()


def failures(result: SectionResult, prefix: str) -> list[str]:
    """What failed, a line each."""
    return [
        f"failed: {prefix}{result.section.name}, {task.task.name}: {side}: {why}"
        for task in result.tasks
        for side, why in task.failed.items()
    ]
