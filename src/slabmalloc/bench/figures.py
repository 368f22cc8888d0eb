# SPDX-License-Identifier: MIT
"""Turns, and what is made of figures that came in turns (floor 6).

A round runs every side once; the next round starts with another side. A ratio is taken within a round, where both sides
saw the same machine; the median over the rounds is the figure, and the quartiles say how far to trust it.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Spread", "in_turn", "short", "spread"]

Any_ = TypeVar("Any_")


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over the rounds; of a ratio, also what it was taken against."""

    median: float
    low: float
    high: float
    against: str = ""


def spread(values: Sequence[float], against: str = "") -> Spread:
    """Median and quartiles of `values`, of which there is at least one.

    >>> spread([1.0, 2.0, 3.0])
    Spread(median=2.0, low=1.5, high=2.5, against='')
    """
    if len(values) < 2:
        return Spread(values[0], values[0], values[0], against)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, against)


def in_turn(sides: Sequence[Any_], number: int) -> list[Any_]:
    """The sides in the order of round `number`: another one is first in the next.

    >>> in_turn("ABC", 1)
    ['B', 'C', 'A']
    """
    first = number % max(len(sides), 1)
    return [*sides[first:], *sides[:first]]


def short(value: float, unit: str = "") -> str:
    """With as many digits as are worth reading.

    >>> short(1234.5), short(12.34, "MiB"), short(1.234), short(0.1234, "s")
    ('1,234', '12.3 MiB', '1.23', '0.123 s')
    """
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 3 if abs(value) < 1 else 2
    return f"{value:,.{digits}f} {unit}".strip()
