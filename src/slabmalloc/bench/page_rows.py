# SPDX-License-Identifier: MIT
"""How rows look on the page (floor 6): legend, plots with their figures, memory over time, the table of all figures."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from .charts import memory_chart, ratio_axis, ratio_bars, scale_of
from .commands import HARDENED, HARDENED_SIDES, OURS, STOCK
from .figures import short
from .outcome import LOST, MEAN, WON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .figures import Spread
    from .outcome import Cell, Row
    from .report import Report, SectionReport

__all__ = ["Colors", "figure", "figures_table", "hardened_plot", "judged", "legend", "memory", "plot"]

COLORS = 8
KINDS = {LOST: "is-lost", WON: "is-won"}
"""Classes of the page's style by verdict."""

Named = tuple["Row", str, str]
"""A row, its name on the page, and what stands below the name in small."""


class Colors:
    """The number of each side's colour: stock 0, ours 1, the peers', then those that one section alone has."""

    def __init__(self, report: Report) -> None:
        others = [side for section in report.sections for side in section.result.sides]
        self.names = list(dict.fromkeys([STOCK, OURS, *report.peers, *others]))

    def __getitem__(self, side: str) -> int:
        number = self.names.index(side)
        return number if number < COLORS else 2 + (number - 2) % (COLORS - 2)


def legend(sides: Sequence[str], colors: Colors, versions: Mapping[str, str] | None = None) -> str:
    """Who is who; stock is the line at 1."""
    items = []
    for side in sides:
        mark = '<i class="line"></i>' if side == STOCK else "<i></i>"
        version = f" <span>{escape(versions[side])}</span>" if versions and versions.get(side) else ""
        items.append(f'<li class="side-{colors[side]}">{mark}<b>{escape(side)}</b>{version}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def plot(rows: Sequence[Named], sides: Sequence[str], colors: Colors) -> str:
    """An axis, then each row: name, bars, figures."""
    return _plot(rows, [side for side in sides if side not in HARDENED_SIDES], colors, OURS, _value)


def hardened_plot(rows: Sequence[Named], sides: Sequence[str], colors: Colors) -> str:
    """The same of the hardened mode, ours without it, and the hardened peers."""
    there = [side for side in sides if side in (OURS, *HARDENED_SIDES)]
    return _plot(rows, there, colors, HARDENED, _hardened_value)


def _plot(rows: Sequence[Named], sides: Sequence[str], colors: Colors, main: str, value: Callable[[Row], str]) -> str:
    """`main` is the side whose figures are told."""
    ratios_there = [row.cells[side].ratio for row, *_ in rows for side in sides if side in row.cells]
    scale = scale_of([ratio for ratio in ratios_there if ratio])
    lines = [f'<div class="head"><span class="skip"></span>{ratio_axis(scale)}<span class="skip"></span></div>']
    for row, name, below in rows:
        ratios = {side: row.cells[side].ratio for side in sides if side in row.cells}
        bars = [(colors[side], side, ratio) for side, ratio in ratios.items() if ratio]
        is_mean = row.name.startswith(MEAN) and name == row.name
        small = f"<small>{escape(below)}</small>" if below else ""
        lines.append(
            f'<div class="row{" mean" if is_mean else ""}"><div class="name">{escape(name)}{small}</div>'
            f"{ratio_bars(scale, bars, colors[main])}{value(row)}</div>"
        )
    return "\n".join(lines)


def _value(row: Row) -> str:
    """Our ratio and what it is of; and to which peer the row is lost."""
    lines = []
    if row.ours:
        of = figure(row, STOCK)
        lines.append(f"{judged(row, row.ours)}{f' <small>of {of}</small>' if of else ''}")
    if row.to_best and row.verdicts[row.to_best.against] == LOST:
        lines.append(f'<em class="is-lost">{row.to_best.median:.2f} of {escape(row.to_best.against)}</em>')
    lines += _failed(row, [side for side in row.cells if side not in HARDENED_SIDES])
    return f'<div class="value">{"".join(lines)}</div>'


def _hardened_value(row: Row) -> str:
    """The hardened mode's ratio to stock, to ours without it, and to each hardened peer."""
    ratio, of = row.cells[HARDENED].ratio, figure(row, STOCK)
    lines = [f"<b>{ratio.median:.2f}</b>{f' <small>of {of}</small>' if of else ''}" if ratio else ""]
    for other, to_other in row.hardened.items():
        kind = KINDS.get(row.hardened_verdicts.get(other, ""), "is-level")
        lines.append(f'<em class="{kind}">{to_other.median:.2f} of {escape(other)}</em>')
    return f'<div class="value">{"".join([*lines, *_failed(row, HARDENED_SIDES)])}</div>'


def _failed(row: Row, sides: Iterable[str]) -> list[str]:
    return [
        f'<em class="is-lost">{escape(side)} failed</em>'
        for side in sides
        if side in row.cells and row.cells[side].failed
    ]


def judged(row: Row, ratio: Spread | None) -> str:
    """One of our ratios in the colour of its verdict, with a name where it is not to stock."""
    if ratio is None:
        return ""
    kind = KINDS.get(row.verdicts[ratio.against], "is-level")
    name = "" if ratio.against == STOCK else f" <small>of {escape(ratio.against)}</small>"
    return f'<b class="{kind}">{ratio.median:.2f}</b>{name}'


def figure(row: Row, side: str) -> str:
    """The median of a side; nothing for a mean."""
    cell = row.cells.get(side)
    return short(cell.figure.median, row.unit) if cell and cell.figure else ""


def memory(section: SectionReport, colors: Colors) -> str:
    """Memory over time of each task that was watched, in the first round."""
    figures = []
    for task in section.result.tasks:
        watched = [record for record in task.raw if len(record.get("memory_over_time", ())) > 1]
        lines = {colors[record["side"]]: record["memory_over_time"] for record in reversed(watched)}
        if lines:
            caption = f"<figcaption>{escape(task.task.name)}</figcaption>"
            figures.append(f'<figure>{caption}<div class="plot">{memory_chart(lines)}</div></figure>')
    if not figures:
        return ""
    return (
        '<h3>Memory over time</h3><p class="about">From start to end of one process each.</p>'
        f'<div class="charts">{"".join(figures)}</div>'
    )


def figures_table(section: SectionReport, sides: Sequence[str]) -> str:
    """All medians and quartiles, folded."""
    head = ["row", "rounds", *sides]
    body = []
    for row in section.rows:
        name = f"{escape(row.name)}<br><small>{escape(row.measure)}</small>"
        body.append([name, str(row.rounds), *(_full(row, row.cells.get(side)) for side in sides)])
    table = _html_table(head, body)
    return f"<details><summary>All figures: medians, and ratios to stock with quartiles</summary>{table}</details>"


def _full(row: Row, cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.failed:
        return '<span class="is-lost">failed</span>'
    parts = [short(cell.figure.median, row.unit)] if cell.figure else []
    if cell.ratio:
        ratio = cell.ratio
        quartiles = f" ({ratio.low:.2f} - {ratio.high:.2f})" if row.rounds > 1 else ""
        parts.append(f"<small>{ratio.median:.3f}{quartiles}</small>")
    return "<br>".join(parts)


def _html_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """The head is text, the body markup; all columns but the first hold figures."""
    lines = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>" for line in body]
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'
