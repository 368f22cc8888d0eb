# SPDX-License-Identifier: MIT
"""The report as text (floor 6): Markdown tables that read well as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .commands import HARDENED_SIDES, OURS, STOCK
from .outcome import LOST
from .peers import HARDENED_PEERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .outcome import Row
    from .report import Report

__all__ = ["table", "text"]


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """An aligned Markdown table.

    >>> print(table(["a", "b"], [["1", "two"]]))
    | a | b   |
    | - | --- |
    | 1 | two |
    """
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
    ruler = ["-" * width for width in widths]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in [header, ruler, *body])


def text(report: Report) -> str:
    """Everything that was measured, then what slabmalloc lost, then what was not measured."""
    parts = []
    for section in report.sections:
        for measure, rows in section.groups if section.rows else ():
            title = f"{section.title}: {measure}" if measure else section.title
            named = [(row.name if measure else f"{row.name}: {row.measure}", row) for row in rows]
            parts.append(_group_table(section.result.sides, title, named))
        for measure, rows in section.hardened_groups:
            title = f"{section.title}, hardened: {measure}" if measure else f"{section.title}, hardened"
            named = [(row.name if measure else f"{row.name}: {row.measure}", row) for row in rows]
            parts.append(_hardened_table(title, named))
    parts.append(_losses(report))
    lines = [f"failed: {line}" for line in report.failures]
    lines += [f"not measured: {name}: {why}" for name, why in report.left_out.items()]
    lines += [f"note: {note}" for note in report.notes]
    parts.append("\n".join(lines))
    return "\n\n".join(filter(None, parts))


def _group_table(sides: Sequence[str], title: str, named: Sequence[tuple[str, Row]]) -> str:
    """Stock in full, the others as ratio to it; of ours the quartiles, and how it stands."""
    there = [side for side in sides if side not in HARDENED_SIDES and any(side in row.cells for _, row in named)]
    header = [title]
    for side in there:
        header += [side, "quartiles"] if side == OURS else [side]
    body = []
    for name, row in named:
        line = [name]
        for side in there:
            line.append(row.text(side))
            if side == OURS:
                line.append(f"{row.ours.low:.2f} - {row.ours.high:.2f}" if row.ours and row.rounds > 1 else "")
        body.append([*line, _standing(row)])
    return table([*header, ""], body)


def _hardened_table(title: str, named: Sequence[tuple[str, Row]]) -> str:
    """Stock in full, the hardened sides as ratio to it; then the hardened mode to ours without it, and to its peers."""
    there = [side for side in (STOCK, *HARDENED_SIDES) if any(side in row.cells for _, row in named)]
    others = [other for other in (OURS, *HARDENED_PEERS) if any(other in row.hardened for _, row in named)]
    header = [title, *there, *(f"of {other}" for other in others)]
    body = [
        [name, *(row.text(side) for side in there), *(_hardened_ratio(row, other) for other in others)]
        for name, row in named
    ]
    return table(header, body)


def _hardened_ratio(row: Row, against: str) -> str:
    if against not in row.hardened:
        return ""
    return f"{row.hardened[against].median:.2f}" + (" lost" if row.hardened_verdicts.get(against) == LOST else "")


def _standing(row: Row) -> str:
    lost = [against for against, verdict in row.verdicts.items() if verdict == LOST]
    return f"lost to {' and '.join(lost)}" if lost else ""


def _losses(report: Report) -> str:
    """The rows that slabmalloc lost, or that there is none."""
    counted = [row for row in report.rows if row.verdicts]
    if not counted:
        return "slabmalloc was compared with nobody."
    hardened = report.hardened_losses
    said = f"slabmalloc loses {len(report.lost)} of {len(counted)} rows"
    if not report.lost:
        return f"{said}. {hardened}".strip()
    body = [
        [
            f"{row.section}: {row.name}: {row.measure}",
            _ratio(row, row.ours.against if row.ours else STOCK),
            _ratio(row, row.to_best.against if row.to_best else ""),
        ]
        for row in report.lost
    ]
    return f"{said}:\n\n" + table(["row", "of stock", "of the best peer"], body) + (hardened and f"\n\n{hardened}")


def _ratio(row: Row, against: str) -> str:
    """Ours to somebody, with a name where it is not stock, and who won."""
    found = next((each for each in (row.ours, row.to_best) if each and each.against == against), None)
    if found is None:
        return ""
    name = "" if against == STOCK else f" ({against})"
    return f"{found.median:.2f}{name}" + (" lost" if row.verdicts[against] == LOST else "")
