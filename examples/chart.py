# SPDX-License-Identifier: MIT
"""A line chart as a self-contained SVG: for the demo's picture, without a plotting library.

Each line is labelled to the right of where it ends, so there is no legend to look up; labels that would cover each
other move apart. The only grid is horizontal, for the values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Line", "line_chart"]

WIDTH, HEIGHT = 960, 500
LEFT, RIGHT, TOP, BOTTOM = 70, 205, 104, 56
LABEL_HEIGHT = 20.0
FONT = "font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\""
INK, SOFT, GRID = "#1f2430", "#667085", "#e4e7ec"


@dataclass(frozen=True)
class Line:
    """One line: its points (x, y) by ascending x, and marks (x, text) on it."""

    label: str
    color: str
    points: Sequence[tuple[float, float]]
    marks: Sequence[tuple[float, str]] = field(default=())
    width: float = 2.4

    def at(self, x: float) -> float:
        """The value at x, between points on the straight line, outside of them that of the nearest."""
        before = max((point for point in self.points if point[0] <= x), default=self.points[0])
        after = min((point for point in self.points if point[0] >= x), default=self.points[-1])
        if after[0] <= before[0]:
            return before[1]
        return before[1] + (after[1] - before[1]) * (x - before[0]) / (after[0] - before[0])


def line_chart(lines: Sequence[Line], title: str, subtitle: str, x_unit: str, y_unit: str) -> str:
    """The SVG text: both axes begin at 0, ticks are round numbers."""
    x_step = _round_step(max(line.points[-1][0] for line in lines), 8)
    y_step = _round_step(max(y for line in lines for _, y in line.points), 5)
    x_end = max(line.points[-1][0] for line in lines)
    y_end = y_step * (int(max(y for line in lines for _, y in line.points) / y_step) + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + x / x_end * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - y / y_end * (HEIGHT - TOP - BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT - 44, 40, title, 21, INK, weight=600),
        _text(LEFT - 44, 66, subtitle, 14, SOFT),
    ]
    for step in range(int(y_end / y_step) + 1):
        x, y = place(0, step * y_step)
        parts.append(f'<line x1="{x:.1f}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        unit = f" {y_unit}" if step == int(y_end / y_step) else ""
        parts.append(_text(x - 10, y + 4.5, f"{step * y_step:g}", 13, SOFT, anchor="end"))
        parts.append(_text(x + 4, y - 6, unit.strip(), 13, SOFT) if unit else "")
    for step in range(int(x_end / x_step) + 1):
        x, y = place(step * x_step, 0)
        unit = f" {x_unit}" if step == int(x_end / x_step) else ""
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y + 5:.1f}" stroke="{SOFT}"/>')
        parts.append(_text(x, y + 22, f"{step * x_step:g}{unit}", 13, SOFT, anchor="middle"))
    label_heights = _apart([place(*line.points[-1])[1] for line in lines], HEIGHT - BOTTOM)
    for line, label_y in zip(lines, label_heights, strict=True):
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line.points))
        parts.append(
            f'<polyline points="{corners}" fill="none" stroke="{line.color}" stroke-width="{line.width}" '
            'stroke-linejoin="round" stroke-linecap="round"/>'
        )
        x, y = place(*line.points[-1])
        label_x = WIDTH - RIGHT + 18
        parts.append(
            f'<polyline points="{x + 3:.1f},{y:.1f} {label_x - 12},{y:.1f} {label_x - 4},{label_y:.1f}" fill="none" '
            f'stroke="{line.color}" stroke-width="1" stroke-dasharray="2 3"/>'
        )
        label = f"{line.label} {line.points[-1][1]:.0f} {y_unit}"
        parts.append(_text(label_x, label_y + 5, label, 15, line.color, weight=600))
        for at, text in line.marks:
            x, y = place(at, line.at(at))
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="#ffffff" stroke="{line.color}" stroke-width="2.2"/>'
            )
            parts.append(_text(x, y - 13, text, 13, line.color, anchor="middle") if text else "")
    return "\n".join(part for part in [*parts, "</svg>"] if part) + "\n"


def _text(x: float, y: float, text: str, size: int, color: str, *, anchor: str = "start", weight: int = 400) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" '
        f'text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )


def _apart(heights: Sequence[float], lowest: float) -> list[float]:
    """The heights, moved upwards so that any two are a label's height apart and none lies below `lowest`."""
    order = sorted(range(len(heights)), key=lambda number: -heights[number])
    moved, limit = list(heights), lowest
    for number in order:
        moved[number] = min(heights[number], limit)
        limit = moved[number] - LABEL_HEIGHT
    return moved


def _round_step(largest: float, count: int) -> float:
    """The smallest of 1, 2, 5, 10, 20 ... of which `count` reach `largest`."""
    scale = 1.0
    while True:
        for digit in (1, 2, 5):
            if digit * scale * count >= largest:
                return digit * scale
        scale *= 10
