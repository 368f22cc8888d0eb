# SPDX-License-Identifier: MIT
"""(a) Small objects of many kinds in one list, a random share dropped; what stays is strewn over all of them."""

from __future__ import annotations

import gc
import random

import memory


class Point:
    """An instance without a dictionary."""

    __slots__ = ("x", "y")

    def __init__(self, x: int, y: float) -> None:
        self.x, self.y = x, y


def mixed(number: int) -> object:
    """One small object, of a kind that changes with its number."""
    kind = number % 6
    if kind == 0:
        return number * 0.5
    if kind == 1:
        return f"name {number}"
    if kind == 2:
        return (number, kind)
    if kind == 3:
        return Point(number, 0.0)
    if kind == 4:
        return bytes(number % 48 + 1)
    return number + (1 << 40)


def run(scale: int, dropped_percent: int, milliseconds: int) -> dict[str, float]:
    """40,000 objects per unit of scale; drop, collect, be a little active."""
    chance = random.Random(1)
    objects = [mixed(number) for number in range(40_000 * scale)]
    built = memory.pss_mib()
    kept = [thing for thing in objects if chance.random() * 100 >= dropped_percent]
    del objects
    gc.collect()
    dropped = memory.pss_mib()
    memory.light_activity(milliseconds)
    return {"result": len(kept), "built_mib": built, "dropped_mib": dropped, "released_mib": memory.pss_mib()}
