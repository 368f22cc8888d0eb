# SPDX-License-Identifier: MIT
"""A large heap: records built, visited at random, collected, dropped; each step's processor time on its own."""

from __future__ import annotations

import gc
import random
import time
from itertools import pairwise


class Record:
    """With a list, a tuple and two strings of its own."""

    __slots__ = ("length", "name", "place", "tags")

    def __init__(self, number: int) -> None:
        self.name = f"record {number}"
        self.place = (number % 1013, number * 0.5)
        self.tags = [f"t{number % 9973}", f"u{number % 97}"]
        self.length = len(self.name)


def run(scale: int) -> dict[str, float]:
    """10,000 records per unit of scale."""
    marks = [time.process_time()]
    records = [Record(number) for number in range(10_000 * scale)]
    marks.append(time.process_time())
    order = random.Random(1).choices(range(len(records)), k=len(records))
    marks.append(time.process_time())
    total = 0.0
    for number in order:
        record = records[number]
        total += record.length + record.place[1] + len(record.tags)
    marks.append(time.process_time())
    for _ in range(3):
        gc.collect()
    marks.append(time.process_time())
    del record
    records.clear()
    marks.append(time.process_time())
    build, _, visit, collect, drop = (after - before for before, after in pairwise(marks))
    return {"result": total, "build_s": build, "visit_s": visit, "collect_s": collect / 3, "drop_s": drop}
