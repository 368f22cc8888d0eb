# SPDX-License-Identifier: MIT
"""The page's plots (floor 6): inline SVG whose width is the reader's, so that its text is not scaled with it.

Places along the width are percentages, heights are pixels. What has a colour has a class, `side-N`, for the N-th side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from .figures import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .figures import Spread

__all__ = ["Scale", "memory_chart", "ratio_axis", "ratio_bars", "scale_of"]

OURS_HEIGHT, PEER_HEIGHT, GAP = 11, 5, 3
TICKS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 3, 4, 8, 16, 32, 64)
TICK_SHARE = 11.0
"""Per cent of the width that two ticks are apart, at least."""


@dataclass(frozen=True)
class Scale:
    """Ratios on a logarithmic axis, since half and double are equally far from 1."""

    low: float
    high: float

    def place(self, ratio: float) -> float:
        """Per cent of the width; what is outside lies at the edge."""
        share = math.log(ratio / self.low) / math.log(self.high / self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)

    @property
    def ticks(self) -> list[float]:
        """From 1 outwards, as many as have room."""
        ticks = [1.0]
        for direction in (1, -1):
            last = self.place(1)
            for tick in sorted(TICKS, reverse=direction < 0):
                place = self.place(tick)
                if (place - last) * direction >= TICK_SHARE and 2 <= place <= 98:
                    ticks.append(tick)
                    last = place
        return sorted(ticks)


def scale_of(ratios: Sequence[Spread]) -> Scale:
    """Wide enough for all medians, and for a fifth above and below 1.

    >>> from slabmalloc.bench.figures import Spread
    >>> scale_of([Spread(4.0, 3.0, 5.0)]).high > 4
    True
    """
    medians = [ratio.median for ratio in ratios if ratio.median > 0] or [1.0]
    low, high = min(*medians, 0.85), max(*medians, 1.18)
    margin = (high / low) ** 0.06
    return Scale(low / margin, high * margin)


def ratio_axis(scale: Scale) -> str:
    """The ticks' texts, for above the bars."""
    texts = [
        f'<text x="{scale.place(tick)}%" y="13" class="{"one" if tick == 1 else "tick"}">{_tick(tick)}</text>'
        for tick in scale.ticks
    ]
    return f'<svg class="axis" width="100%" height="18" aria-hidden="true">{"".join(texts)}</svg>'


def ratio_bars(scale: Scale, bars: Sequence[tuple[int, str, Spread]], thick_color: int = 1) -> str:
    """A row: for each side (its colour, its name) a bar from 1 to its median, and a whisker from quartile to quartile.

    One colour's bar is thicker: ours.
    """
    height = sum(OURS_HEIGHT if color == 1 else PEER_HEIGHT for color, *_ in bars) + GAP * (len(bars) + 1)
    parts, top = [], GAP
    for tick in scale.ticks:
        x, kind = scale.place(tick), "one" if tick == 1 else "grid"
        parts.append(f'<line class="{kind}" x1="{x}%" x2="{x}%" y1="0" y2="{height}"/>')
    for color, name, ratio in bars:
        thick = OURS_HEIGHT if color == thick_color else PEER_HEIGHT
        parts.append(_bar(scale, color, f"{name}: {ratio.median:.3f} of stock", ratio, top, thick))
        top += thick + GAP
    told = escape("; ".join(f"{name} {ratio.median:.2f} of stock" for _, name, ratio in bars))
    return f'<svg class="bars" width="100%" height="{height}" role="img" aria-label="{told}">{"".join(parts)}</svg>'


def _bar(scale: Scale, color: int, told: str, ratio: Spread, top: int, thick: int) -> str:
    one, end = scale.place(1), scale.place(ratio.median)
    left, width, middle = min(one, end), round(max(abs(end - one), 0.3), 2), top + thick / 2
    low, high = scale.place(ratio.low), scale.place(ratio.high)
    told += f" ({ratio.low:.3f} - {ratio.high:.3f})"
    whisker = f'<line class="whisker" x1="{low}%" x2="{high}%" y1="{middle}" y2="{middle}"/>'
    for x in (low, high):
        whisker += f'<line class="whisker" x1="{x}%" x2="{x}%" y1="{middle - 2.5}" y2="{middle + 2.5}"/>'
    return (
        f'<g class="side-{color}"><title>{escape(told)}</title>'
        f'<rect x="{left}%" y="{top}" width="{width}%" height="{thick}" rx="1.5"/>'
        f"{whisker if high - low > 0.2 else ''}</g>"
    )


def _tick(ratio: float) -> str:
    """A number as short as it is.

    >>> _tick(0.5), _tick(1), _tick(1 / 16)
    ('0.5', '1', '1/16')
    """
    return f"{ratio:g}" if ratio > 0.2 else f"1/{round(1 / ratio)}"


CHART_HEIGHT = 190


def memory_chart(lines: Mapping[int, Sequence[tuple[float, float]]]) -> str:
    """Memory in MiB over seconds, a line for each side by its colour; both axes begin at 0."""
    x_end = max(points[-1][0] for points in lines.values())
    y_most = max(y for points in lines.values() for _, y in points)
    x_step, y_step = _round_step(x_end, 6), _round_step(y_most, 4)
    y_end = y_step * math.ceil(y_most / y_step)
    parts = []
    for number in range(round(y_end / y_step) + 1):
        share = 100 - 100 * number * y_step / y_end
        unit = " MiB" if number == round(y_end / y_step) else ""
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{share:.2f}%" y2="{share:.2f}%"/>')
        parts.append(f'<text class="y" x="-7" y="{share:.2f}%" dy="4">{short_step(number * y_step)}</text>')
        if unit:
            parts.append(f'<text class="unit" x="4" y="-6">{unit.strip()}</text>')
    for number in range(int(x_end / x_step) + 1):
        share = 100 * number * x_step / x_end
        unit = " s" if number == int(x_end / x_step) else ""
        parts.append(f'<text class="x" x="{share:.2f}%" y="100%" dy="17">{short_step(number * x_step)}{unit}</text>')
    parts.append('<svg width="100%" height="100%" viewBox="0 0 1000 1000" preserveAspectRatio="none">')
    # Ours is drawn last, on top.
    for side in sorted(lines, key=lambda side: (side == 1, side)):
        corners = " ".join(f"{1000 * x / x_end:.1f},{1000 - 1000 * y / y_end:.1f}" for x, y in lines[side])
        parts.append(f'<polyline class="side-{side}" points="{corners}"/>')
    return f'<svg class="memory" width="100%" height="{CHART_HEIGHT}" aria-hidden="true">{"".join(parts)}</svg></svg>'


def short_step(value: float) -> str:
    """A tick of a linear axis.

    >>> short_step(1000.0), short_step(0.5)
    ('1,000', '0.5')
    """
    return f"{value:,.0f}" if value == round(value) else short(value).rstrip("0")


def _round_step(largest: float, count: int) -> float:
    """The smallest of ... 0.1, 0.2, 0.5, 1, 2, 5, 10 ... of which `count` reach `largest`.

    >>> _round_step(7, 4), _round_step(300, 4)
    (2.0, 100.0)
    """
    scale = 10.0 ** math.floor(math.log10(largest / count))
    return next(digit * scale for digit in (1, 2, 5, 10) if digit * scale * count >= largest)
