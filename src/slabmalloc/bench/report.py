# SPDX-License-Identifier: MIT
"""All that a run of ``slabmalloc bench`` came to (floor 6), for the table, the JSON file and the page."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from .commands import HARDENED
from .outcome import LOST, MEAN, Row, rows_of
from .schedule import NOT_AGAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .comparison import SectionResult
    from .tasks import Size

__all__ = ["SCHEMA", "Report", "SectionReport"]

SCHEMA = 1
"""Of the JSON file; a member that is renamed or gone makes it the next number."""


@dataclass
class SectionReport:
    """A section with its rows."""

    result: SectionResult

    def __post_init__(self) -> None:
        self.rows = rows_of(self.result)

    @property
    def title(self) -> str:
        """For readers."""
        return self.result.section.title

    @property
    def groups(self) -> list[tuple[str, list[Row]]]:
        """Rows that share a table: those of one measure; all of them, under no name, if each measure has but one."""
        groups = [(measure, list(rows)) for measure, rows in groupby(self.rows, key=lambda row: row.measure)]
        return groups if any(len(rows) > 1 for _, rows in groups) else [("", self.rows)]

    @property
    def hardened_groups(self) -> list[tuple[str, list[Row]]]:
        """The same, of the rows in which the hardened mode took part."""
        groups = [(measure, [row for row in rows if HARDENED in row.cells]) for measure, rows in self.groups]
        return [(measure, rows) for measure, rows in groups if rows]

    @property
    def failures(self) -> list[str]:
        """What failed, a line each; not what was not even begun, for what had failed before."""
        return [
            f"{self.result.section.name}, {task.task.name}: {side}: {why}"
            for task in self.result.tasks
            for side, why in task.failed.items()
            if why != NOT_AGAIN
        ]


@dataclass
class Report:
    """`left_out` says why sides, sections and tasks were not measured; `notes` what a reader must know besides."""

    command: str
    started: str
    seconds: float
    size: Size
    machine: Mapping[str, Any]
    load_before: tuple[float, float, float]
    sections: list[SectionReport]
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """Of all sections."""
        return [row for section in self.sections for row in section.rows]

    @property
    def lost(self) -> list[Row]:
        """What slabmalloc lost to stock or to the best peer, means first, then by how much."""
        rows = [row for row in self.rows if row.is_lost]
        return sorted(rows, key=lambda row: (not row.name.startswith(MEAN), -worst_ratio(row)))

    @property
    def hardened_losses(self) -> str:
        """How many rows the hardened mode lost to each of its peers, in a sentence; nothing if none was measured."""
        verdicts: dict[str, list[str]] = {}
        for row in self.rows:
            for name, found in row.hardened_verdicts.items():
                verdicts.setdefault(name, []).append(found)
        told = [f"{all_.count(LOST)} of {len(all_)} rows to {name}" for name, all_ in verdicts.items()]
        return f"Hardened, it loses {' and '.join(told)}." if told else ""

    @property
    def failures(self) -> list[str]:
        """Of all sections."""
        return [line for section in self.sections for line in section.failures]

    @property
    def peers(self) -> list[str]:
        """The peers in the order of the machine's record."""
        return list(self.machine["peers"])

    def record(self) -> dict[str, Any]:
        """The JSON file, raw figures included."""
        return {
            "schema": SCHEMA,
            "command": self.command,
            "started": self.started,
            "seconds": round(self.seconds, 1),
            "size": asdict(self.size),
            "machine": {**self.machine, "load_average_before": self.load_before},
            "left_out": self.left_out,
            "failures": self.failures,
            "notes": self.notes,
            "lost": [[row.section, row.name, row.measure] for row in self.lost],
            "sections": [
                {
                    "name": section.result.section.name,
                    "title": section.title,
                    "sides": section.result.sides,
                    "rows": [row.record() for row in section.rows],
                    "tasks": section.result.record(),
                }
                for section in self.sections
            ],
        }


def worst_ratio(row: Row) -> float:
    """The larger of ours to stock and to the best peer."""
    return max((each.median for each in (row.ours, row.to_best) if each), default=0.0)
