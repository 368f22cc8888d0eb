# SPDX-License-Identifier: MIT
"""A graph of objects pickled and read back."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field


@dataclass
class Station:
    """A node of the graph."""

    name: str
    place: tuple[float, float]
    lines: dict[str, int] = field(default_factory=dict)
    next: Station | None = None


def network(count: int) -> list[Station]:
    """Short chains of stations, since pickle recurses."""
    stations = [Station(f"station {n}", (n / 7, n / 11), {f"line {n % 13}": n}) for n in range(count)]
    for number in range(count - 1):
        if number % 20:
            stations[number].next = stations[number + 1]
    return stations


def run(scale: int) -> int:
    """250 stations per unit of scale, there and back eight times."""
    stations = network(250 * scale)
    total = 0
    for protocol in (4, 5) * 4:
        total += len(data := pickle.dumps(stations, protocol))
        stations = pickle.loads(data)
    return total + len(stations[-1].name)
