# SPDX-License-Identifier: MIT
"""Rows (floor 6): each side of each task as figure and as ratio to stock, and where slabmalloc stands.

Less is better in every row. A row is lost to stock, or to the best peer, if the ratio's median is more than a hundredth
above 1 and its lower quartile is above 1 too; it is won by the same rule turned round; else it is level. Of fewer than
three rounds quartiles say nothing: there it takes a twentieth. The hardened mode is judged by itself, against the
hardened peers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .commands import HARDENED, HARDENED_SIDES, OURS, STOCK
from .figures import Spread, short, spread
from .peers import HARDENED_PEERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .comparison import SectionResult, TaskResult
    from .tasks import Measure

    Ratios = Callable[[str, str], Sequence[float]]
    """Per round, of one side to another; none if one of them was not measured."""

__all__ = ["EVEN", "LOST", "MEAN", "WON", "Cell", "Row", "rows_of", "verdict"]

MEAN = "geometric mean"
LEVEL, LEVEL_OF_FEW, FEW_ROUNDS = 1.01, 1.05, 3

LOST, WON, EVEN = "lost", "won", "level"


@dataclass(frozen=True)
class Cell:
    """One side of a row: its own figures (not of a mean), the ratio to stock (not of stock), or why it failed."""

    figure: Spread | None = None
    ratio: Spread | None = None
    failed: str = ""


@dataclass(frozen=True)
class Row:
    """A task by one measure, or the mean of a measure over the section's tasks; sides by name, stock first.

    `to_best` is ours to the peer that leaves us the worst ratio; None where no peer was measured, or we were not.
    `hardened` are the hardened mode's ratios by whom they are to: ours without it, which is its price, and each
    hardened peer.
    """

    section: str
    name: str
    measure: str
    unit: str
    rounds: int
    cells: dict[str, Cell] = field(default_factory=dict)
    to_best: Spread | None = None
    hardened: dict[str, Spread] = field(default_factory=dict)

    @property
    def ours(self) -> Spread | None:
        """Our ratio to stock."""
        return self.cells[OURS].ratio if OURS in self.cells else None

    @property
    def verdicts(self) -> dict[str, str]:
        """Against stock, and against the best peer by its name; of those that were compared."""
        found = [each for each in (self.ours, self.to_best) if each is not None]
        return {each.against: verdict(each, self.rounds) for each in found}

    @property
    def hardened_verdicts(self) -> dict[str, str]:
        """Of the hardened mode, against each hardened peer by its name."""
        return {name: verdict(ratio, self.rounds) for name, ratio in self.hardened.items() if name != OURS}

    @property
    def is_lost(self) -> bool:
        """To either."""
        return LOST in self.verdicts.values()

    def record(self) -> dict[str, Any]:
        """For the JSON file."""
        return {**asdict(self), "verdicts": self.verdicts, "hardened_verdicts": self.hardened_verdicts}

    def text(self, side: str) -> str:
        """What a table says of the side: stock's figure, the ratio of the others."""
        cell = self.cells.get(side, Cell())
        if cell.failed:
            return "failed"
        if side == STOCK:
            return short(cell.figure.median, self.unit) if cell.figure else "1"
        return f"{cell.ratio.median:.2f}" if cell.ratio else ""


def verdict(ratio: Spread, rounds: int) -> str:
    """Of a ratio to somebody else.

    >>> verdict(Spread(1.2, 1.1, 1.3), 3), verdict(Spread(1.2, 0.9, 1.3), 3), verdict(Spread(0.5, 0.5, 0.5), 1)
    ('lost', 'level', 'won')
    """
    level = LEVEL if rounds >= FEW_ROUNDS else LEVEL_OF_FEW
    if ratio.median > level and ratio.low > 1:
        return LOST
    if ratio.median < 1 / level and ratio.high < 1:
        return WON
    return EVEN


def rows_of(result: SectionResult) -> list[Row]:
    """Measure by measure the tasks, then their mean; tasks of which nothing was measured are left out."""
    measures = dict.fromkeys(measure for task in result.tasks for measure in task.task.measures)
    rows = []
    for measure in measures:
        tasks = [task for task in result.tasks if measure in task.task.measures and (task.raw or task.failed)]
        rows += [_task_row(result, task, measure) for task in tasks]
        if measure.mean and len(tasks) > 1:
            rows += _mean_row(result, measure)
    return rows


def _task_row(result: SectionResult, task: TaskResult, measure: Measure) -> Row:
    cells = {}
    for side in result.sides:
        values = list(task.values(side, measure).values())
        ratios = list(task.compared(side, measure).values()) if side != STOCK else []
        if values or side in task.failed:
            cells[side] = Cell(
                spread(values) if values else None,
                spread(ratios, STOCK) if ratios else None,
                task.failed.get(side, ""),
            )

    def ratios_of(side: str, against: str) -> list[float]:
        return list(task.compared(side, measure, against).values())

    rounds = len({record["round"] for record in task.raw})
    standing = _best(cells, ratios_of), _hardened(cells, ratios_of)
    return Row(result.section.name, task.task.name, measure.title, measure.unit, rounds, cells, *standing)


def _mean_row(result: SectionResult, measure: Measure) -> list[Row]:
    means = {side: result.means(side, measure) for side in result.sides}
    most = max((count for _, count in means.values()), default=0)
    # A mean over fewer tasks than the others' is no match for them.
    means = {side: found for side, found in means.items() if found[1] == most and found[0]}
    cells = {side: Cell(ratio=None if side == STOCK else spread(found, STOCK)) for side, (found, _) in means.items()}
    if OURS not in cells:
        return []

    def ratios_of(side: str, against: str) -> list[float]:
        return result.means(side, measure, against)[0]

    rounds = len(means[OURS][0])
    standing = _best(cells, ratios_of), _hardened(cells, ratios_of)
    return [Row(result.section.name, f"{MEAN} of {most}", measure.title, "", rounds, cells, *standing)]


def _best(cells: Iterable[str], ratios_of: Ratios) -> Spread | None:
    """Ours to the peer that leaves us the worst ratio."""
    peers = [side for side in cells if side not in (STOCK, OURS, *HARDENED_SIDES)] if OURS in cells else []
    ratios = [spread(found, peer) for peer in peers if (found := ratios_of(OURS, peer))]
    return max(ratios, key=lambda ratio: ratio.median, default=None)


def _hardened(cells: Iterable[str], ratios_of: Ratios) -> dict[str, Spread]:
    """The hardened mode's to ours without it, and to the hardened peers."""
    others = [side for side in (OURS, *HARDENED_PEERS) if side in cells] if HARDENED in cells else []
    return {other: spread(found, other) for other in others if (found := ratios_of(HARDENED, other))}
