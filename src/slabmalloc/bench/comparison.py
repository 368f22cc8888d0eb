# SPDX-License-Identifier: MIT
"""Tasks measured side by side in turns (floor 6), and what is made of them: ratios within a round, means over tasks.

A side whose process fails is out of that task, with the reason; everything else goes on.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import children
from .commands import STOCK, Command
from .figures import in_turn
from .tasks import ABOVE, ALONE, LAUNCH, Measure, Section, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["SectionResult", "TaskResult"]


@dataclass
class TaskResult:
    """All that was seen of one task: the record of each process, and why sides failed."""

    task: Task
    raw: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def measure_round(
        self, number: int, sides: Sequence[Command], record_of: Callable[[Command, Task], dict[str, Any]]
    ) -> None:
        """One process of each side, in the order of round `number`."""
        for side in in_turn(sides, number):
            if side.name in self.failed:
                continue
            try:
                self.note(number, side.name, record_of(side, self.task))
            except children.Failed as failure:
                self.failed[side.name] = str(failure)

    def note(self, number: int, side: str, record: dict[str, Any]) -> None:
        """Keep what a process left, if it is what it should be. Raises `Failed` if not."""
        absent = [measure.member for measure in self.task.measures if measure.member not in record]
        if absent:
            raise children.Failed(f"the program did not tell {', '.join(absent)}")
        if self.raw and record.get("result") != (first := self.raw[0]).get("result"):
            # A program computes the same on every side.
            raise children.Failed(f"computed {record.get('result')}, and {first['side']} {first.get('result')}")
        self.raw.append({"round": number, "side": side, **record})

    def values(self, side: str, measure: Measure) -> dict[int, float]:
        """Per round, in the measure's unit; nothing of a side that failed."""
        if side in self.failed:
            return {}
        return {
            record["round"]: _number(record[measure.member]) * measure.factor
            for record in self.raw
            if record["side"] == side
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


def _number(value: float | Sequence[float]) -> float:
    return value if isinstance(value, (int, float)) else statistics.median(value)


@dataclass
class SectionResult:
    """The tasks of a section, on these sides."""

    section: Section
    sides: list[str]
    tasks: list[TaskResult] = field(default_factory=list)

    def means(self, side: str, measure: Measure, against: str = STOCK) -> tuple[list[float], int]:
        """Per round the geometric mean over the tasks that `side` came through with, and how many those are."""
        of_measure = [result for result in self.tasks if measure in result.task.measures]
        ratios = [found for result in of_measure if (found := result.compared(side, measure, against))]
        if not ratios:
            return [], 0
        rounds = sorted(set.intersection(*map(set, ratios)))
        return [statistics.geometric_mean([found[number] for found in ratios]) for number in rounds], len(ratios)

    def record(self) -> list[dict[str, Any]]:
        """For the JSON file; of a path only the file's name, since the rest says nothing to others."""
        told: list[dict[str, Any]] = []
        for result in self.tasks:
            task: dict[str, Any] = asdict(result.task)
            task["words"] = [Path(word).name if word == LAUNCH else word for word in result.task.words]
            told.append({"task": task, "raw": result.raw, "failed": result.failed})
        return told
