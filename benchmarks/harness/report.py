# SPDX-License-Identifier: MIT
"""What is shown and kept where bars bind: lines of a table, and the JSON file.

Each line of a table that a bar binds says `met` or `missed`; lines without a verdict stand there for comparison.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from harness.rounds import Figures, RowResult, ratio_to
from harness.rows import BEST, HARDENED_MEAN_BAR, MAPPED_LIMIT, STATEMENT_BARS, Bar
from slabmalloc.bench.figures import Spread, spread
from slabmalloc.bench.peers import HARDENED_PEERS
from slabmalloc.bench.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Line:
    """One line of a table: what was measured, by whom, against what. `limit` is None where no bar binds."""

    row: str
    side: str
    figure: str
    against: str
    ratio: Spread
    limit: float | None = None

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or nothing where there is no bar."""
        if self.limit is None:
            return ""
        return "met" if self.ratio.median <= self.limit else "missed"

    @property
    def cells(self) -> list[str]:
        """The line as a table shows it."""
        ratio = f"{self.ratio.median:.3f}"
        quartiles = f"{self.ratio.low:.2f} - {self.ratio.high:.2f}"
        limit = "" if self.limit is None else f"{self.limit:.2f}"
        return [self.row, self.side, self.figure, self.against, ratio, quartiles, limit, self.verdict]


HEADER = ["row", "side", "figure", "against", "ratio", "quartiles", "bar", ""]


def row_lines(result: RowResult) -> list[Line]:
    """The lines of one C row: bars for the first of our sides, the same ratios of the others beside it."""
    lines = []
    for index, side in enumerate(result.row.ours):
        if side not in result.ns:
            continue
        for bar in result.row.bars:
            if (ratio := ratio_to(result.ns, side, bar, result.peers)) is None:
                continue
            against = f"{ratio.against} {_ns(result.ns[ratio.against])}" + (f" ({BEST})" if bar.against == BEST else "")
            limit = bar.limit if index == 0 else None
            lines.append(Line(result.row.name, side, _ns(result.ns[side]), against, ratio, limit))
    return lines + _hardened_lines(result) + _memory_lines(result)


def _hardened_lines(result: RowResult) -> list[Line]:
    """The hardened side's: to ours without it, and to each hardened peer; their bar is that of the mean."""
    side, lines = result.row.hardened, []
    for other in (*result.row.ours, *HARDENED_PEERS):
        if side in result.ns and (ratio := ratio_to(result.ns, side, Bar(other, 0), ())) is not None:
            against = f"{other} {_ns(result.ns[other])}"
            lines.append(Line(result.row.name, side, _ns(result.ns[side]), against, ratio))
    return lines


def hardened_mean_lines(results: Sequence[RowResult]) -> list[Line]:
    """Geometric means of the hardened side's ratios, round by round, over the rows that the other came through."""
    lines = []
    for other in HARDENED_PEERS:
        rows = [result for result in results if {other, result.row.hardened} <= result.ns.keys()]
        pairs = [zip(result.ns[result.row.hardened], result.ns[other], strict=True) for result in rows]
        means = [statistics.geometric_mean(a / b for a, b in of_round) for of_round in zip(*pairs, strict=True)]
        if means:
            name = f"malloc, geometric mean of {len(rows)}"
            limit = HARDENED_MEAN_BAR.limit if other == HARDENED_MEAN_BAR.against else None
            lines.append(Line(name, rows[0].row.hardened, "", other, spread(means, other), limit))
    return lines


def _memory_lines(result: RowResult) -> list[Line]:
    lines = []
    telling = {record["side"] for record in result.raw if "mapped_bytes" in record.get("memory", {})}
    for index, side in enumerate(name for name in result.row.ours if name in telling):
        ratio = spread(result.memory(side, ("mapped_bytes", "bookkeeping_bytes"), "live_bytes"), "")
        limit = MAPPED_LIMIT if index == 0 else None
        lines.append(Line(result.row.name, side, "mapped", "live", ratio, limit))
    for side in result.ns:
        if any("memory" in record for record in result.raw):
            ratio = spread(result.memory(side, ("resident_bytes",), "usable_bytes"), "")
            lines.append(Line(result.row.name, side, "resident", "live", ratio))
    return lines


def statement_lines(ns: Figures) -> list[Line]:
    """The lines of the Python rows: against their bar, or for comparison against `bytearray` of the same size."""
    lines = []
    for name, figures in ns.items():
        bar = STATEMENT_BARS.get(name) or Bar("bytearray(65536)" if "65536" in name else "bytearray(64)", 0)
        if (ratio := ratio_to(ns, name, bar, ())) is not None:
            limit = bar.limit if name in STATEMENT_BARS else None
            lines.append(Line(name, "Python", _ns(figures), bar.against or "ns an object", ratio, limit))
    return lines


def peer_table(results: Iterable[RowResult]) -> str:
    """Medians in nanoseconds of every side in every C row."""
    results = list(results)
    names = list(dict.fromkeys(name for result in results for name in result.ns))
    body = [[r.row.name, *(_ns(r.ns[name]) if name in r.ns else "" for name in names)] for r in results]
    return table(["ns per object", *names], body)


def summary(lines: Sequence[Line]) -> str:
    """How many bars were met, and each that was missed."""
    bound = [line for line in lines if line.verdict]
    if not bound:
        return "No bar was measured."
    missed = [line for line in bound if line.verdict == "missed"]
    said = [f"{len(bound) - len(missed)} of {len(bound)} bars met."]
    said += [
        f"missed: {line.row}: {line.ratio.median:.2f} against {line.against}, bar {line.limit:.2f}" for line in missed
    ]
    return "\n".join(said)


def write_json(path: Path, header: dict[str, Any], lines: Sequence[Line], measured: dict[str, Any]) -> None:
    """Everything, raw numbers (`measured`) included."""
    content = {
        **header,
        "lines": [{**asdict(line), "verdict": line.verdict} for line in lines],
        **measured,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def _ns(values: Sequence[float]) -> str:
    median = statistics.median(values)
    return f"{median:.1f} ns" if median < 1000 else f"{median:,.0f} ns"
