# SPDX-License-Identifier: MIT
"""Lines of a log searched, taken apart and counted with regular expressions."""

from __future__ import annotations

import re
from collections import Counter

LINE = re.compile(
    r'(?P<host>\S+) \[(?P<time>[^\]]+)\] "(?P<verb>[A-Z]+) (?P<path>[^" ?]+)\??(?P<query>[^"]*)" (\d+) (\d+)'
)
NUMBER = re.compile(r"\d+")


def lines(count: int) -> list[str]:
    """A log, the same each time."""
    return [
        f"10.0.{n % 251}.{n * 7 % 253} [{n // 60:06}:{n % 60:02}] "
        f'"{("GET", "PUT", "POST")[n % 3]} /shop/{n * 31 % 1009}/item-{n % 97}?page={n % 11}&key={n * 13 % 7919}" '
        f"{(200, 200, 304, 404)[n % 4]} {n * 37 % 50_000}"
        for n in range(count)
    ]


def run(scale: int) -> int:
    """1,200 lines per unit of scale."""
    paths: Counter[str] = Counter()
    queries: dict[str, list[dict[str, str]]] = {}
    total = 0
    for line in lines(1_200 * scale):
        found = LINE.match(line)
        if found is None:
            continue
        fields = found.groupdict()
        paths[NUMBER.sub("N", fields["path"])] += 1
        pairs = dict(pair.split("=") for pair in fields["query"].split("&"))
        queries.setdefault(fields["path"], []).append(pairs)
        total += sum(map(int, NUMBER.findall(line))) % 1000
    return total + len(paths) + len(queries)
