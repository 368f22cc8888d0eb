# SPDX-License-Identifier: MIT
"""What a measurement is (floor 6): a section has tasks; a task is a program; a measure is a member of its record.

The record is what the task's process leaves (`children`). Of every measure less is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["ABOVE", "ALONE", "LAUNCH", "PROGRAMS", "RATIO", "TIMES", "Measure", "Section", "Size", "Task", "program"]

RATIO, ABOVE, ALONE = "ratio", "above", "alone"

LAUNCH = str(Path(__file__).resolve().parent / "programs" / "__main__.py")

PROGRAMS = (
    *("binary_trees", "json_loads", "json_dumps", "pickling", "constraints", "scheduler", "dict_churn"),
    *("text_churn", "object_churn", "deep_copies", "log_text", "sql_rows", "closures", "xml_trees"),
)
"""Small to medium programs that allocate, of 0.6 to 1.1 seconds each at full size on CPython 3.11."""

TIMES = dict.fromkeys(PROGRAMS, 3) | {"binary_trees": 4, "dict_churn": 5, "deep_copies": 5}
"""How often each runs in one process where the start is to be a small part of its time: some three seconds in all."""


@dataclass(frozen=True)
class Measure:
    """A member of the record, times `factor`, in `unit`; a list counts as its median. How it is compared, with whom.

    `limit` is the bar if one binds, that of the first of `against`. `of` says in words what a figure that stands alone
    is related to. `mean`: the geometric mean over the section's tasks is told too, and `mean_limit` is its bar.
    """

    member: str
    title: str
    unit: str = "s"
    factor: float = 1.0
    kind: str = RATIO
    limit: float | None = None
    against: tuple[str, ...] = ("stock",)
    of: str = ""
    mean: bool = False
    mean_limit: float | None = None


@dataclass(frozen=True)
class Task:
    """A program with its arguments. `needs`: a module that it is left out without; `rounds`: not the section's."""

    name: str
    words: tuple[str, ...]
    measures: tuple[Measure, ...]
    needs: str = ""
    rounds: int | None = None
    is_watched: bool = False


@dataclass(frozen=True)
class Section:
    """Tasks that share a table. `title` and `about` tell a reader what is measured.

    `has_hardened`: the hardened mode and its peers take part too.
    """

    name: str
    tasks: tuple[Task, ...]
    rounds: int
    title: str = ""
    about: str = ""
    has_hardened: bool = False

    def rounds_of(self, task: Task) -> int:
        """How often the task is measured."""
        return task.rounds or self.rounds


@dataclass(frozen=True)
class Size:
    """How large: `percent` of full size, and whether it is a quick look."""

    percent: int
    quick: bool

    def of(self, full: int, quick: int) -> int:
        """One number or the other."""
        return quick if self.quick else full


def program(name: str, *numbers: int, times: int = 1) -> tuple[str, ...]:
    """The words of one of `programs/`, whose work is done so many times."""
    return (LAUNCH, name, *map(str, numbers), *([f"times={times}"] if times > 1 else ()))
