# SPDX-License-Identifier: MIT
"""The order of all work, and when it ends (floor 6): round by round through every section.

So whoever interrupts, or sets a time limit, has all rows after the first round, and the later ones make them surer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from . import children, statements
from .comparison import SectionResult, TaskResult
from .sections import LIBRARY_SIDES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .commands import Command
    from .tasks import Section, Task

__all__ = ["NOT_AGAIN", "Clock", "LibraryWork", "ProcessWork", "Step", "Work", "carry_out"]


NOT_AGAIN = "not run: a process of it did not end in time before"


class Clock:
    """How much time there is: for all, None for no limit, and for each process.

    `overran` has the sides one of whose processes did not end in time: they get no more of it.
    """

    GRACE_SECONDS = 12.0
    """What a process that was begun in time may take beyond the end, at most."""

    def __init__(self, seconds: float | None = None, process_seconds: float = children.LIMIT_SECONDS) -> None:
        self.begin = time.monotonic()
        self._end = None if seconds is None else self.begin + seconds
        self._process_seconds = process_seconds
        self.overran: set[str] = set()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.begin

    def suffices_for(self, seconds: float) -> bool:
        """Whether what takes so long would end in time."""
        return self._end is None or time.monotonic() + seconds < self._end

    @property
    def process_limit(self) -> float:
        """Seconds that the next process may take."""
        if self._end is None:
            return self._process_seconds
        return max(2.0, min(self._process_seconds, self._end + self.GRACE_SECONDS - time.monotonic()))


@dataclass(frozen=True)
class Step:
    """One round of one or more tasks on all sides."""

    section: str
    name: str
    number: int
    carry_out: Callable[[Clock], None]


class Work(Protocol):
    """A section to be measured."""

    result: SectionResult

    def steps(self, number: int) -> Iterator[Step]:
        """Those of round `number`, which counts from 0."""


@dataclass
class ProcessWork:
    """A section whose tasks are run by commands. `check` looks at each record; it raises `Failed`."""

    section: Section
    sides: Sequence[Command]
    check: Callable[[Command, dict[str, Any]], None] | None = None
    result: SectionResult = field(init=False)

    def __post_init__(self) -> None:
        tasks = [TaskResult(task) for task in self.section.tasks]
        self.result = SectionResult(self.section, [side.name for side in self.sides], tasks)

    def steps(self, number: int) -> Iterator[Step]:
        """A task each."""
        for task in self.result.tasks:
            if number < self.section.rounds_of(task.task):
                yield Step(self.section.name, task.task.name, number, self._round_of(task, number))

    def _round_of(self, result: TaskResult, number: int) -> Callable[[Clock], None]:
        def carry_out(clock: Clock) -> None:
            def record_of(side: Command, task: Task) -> dict[str, Any]:
                if side.name in clock.overran:
                    raise children.Failed(NOT_AGAIN)
                words, limit = [*side.words, *task.words], clock.process_limit
                try:
                    record = children.run(words, side.environment, limit, is_watched=task.is_watched)
                except children.TookTooLong:
                    clock.overran.add(side.name)
                    raise
                if self.check:
                    self.check(side, record)
                return record

            result.measure_round(number, self.sides, record_of)

        return carry_out


@dataclass
class LibraryWork:
    """The section of statements: one interpreter measures all of them. `skipped` tells which could not be, and why."""

    section: Section
    result: SectionResult = field(init=False)
    skipped: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tasks = [TaskResult(task) for task in self.section.tasks]
        sides = dict.fromkeys(side for task in tasks for side in LIBRARY_SIDES[task.task.name])
        self.result = SectionResult(self.section, list(sides), tasks)

    def steps(self, number: int) -> Iterator[Step]:
        """One."""
        if number < self.section.rounds:
            yield Step(self.section.name, "statements", number, lambda clock: self._measure(number, clock))

    def _measure(self, number: int, clock: Clock) -> None:
        names = {name for task in self.section.tasks for name in LIBRARY_SIDES[task.name].values()}
        slices, slice_ms = map(int, self.section.tasks[0].words)
        try:
            ns, self.skipped = statements.measure(sorted(names), slices, slice_ms, number, clock.process_limit)
        except children.Failed as failure:
            for task in self.result.tasks:
                task.failed = dict.fromkeys(LIBRARY_SIDES[task.task.name], str(failure))
            return
        for task in self.result.tasks:
            for side, name in LIBRARY_SIDES[task.task.name].items():
                if name in ns:
                    task.note(number, side, {"ns": ns[name]})


def carry_out(works: Sequence[Work], clock: Clock, tell: Callable[[Step, int, int], None]) -> int:
    """All steps that there is time for; `tell` hears of each before it begins, with its place among all.

    Returns how many there was no time for. KeyboardInterrupt goes through; what was measured by then stays.
    """
    rounds = max((_rounds_of(work) for work in works), default=0)
    steps = [step for number in range(rounds) for work in works for step in work.steps(number)]
    took: dict[tuple[str, str], float] = {}
    left = 0
    for place, step in enumerate(steps, 1):
        # A step that was never taken is begun in any case; of others the last time tells how long it may take.
        if not clock.suffices_for(took.get((step.section, step.name), 0.0)):
            left += 1
            continue
        tell(step, place, len(steps))
        begin = clock.seconds
        step.carry_out(clock)
        took[step.section, step.name] = clock.seconds - begin
    return left


def _rounds_of(work: Work) -> int:
    section = work.result.section
    return max(section.rounds_of(task) for task in section.tasks)
