# SPDX-License-Identifier: MIT
"""(b) A cache of the entries used last, whose values grow with each use; then it is shrunk to one entry in twenty."""

from __future__ import annotations

import gc
import random
from collections import OrderedDict

import memory

FIRST, GROWTH = 160, 240
"""Bytes: of a new value, and what each use adds (0 to twice as much)."""


def run(scale: int, milliseconds: int) -> dict[str, float]:
    """5,000 entries per unit of scale, four requests for each; then shrink, collect, be a little active."""
    chance, capacity = random.Random(1), 5_000 * scale
    cache: OrderedDict[str, bytes] = OrderedDict()
    for _ in range(4 * capacity):
        key = f"user {int(chance.random() * capacity * 1.2)}"
        value = cache.get(key)
        more = int(chance.random() * 2 * GROWTH)
        cache[key] = bytes(FIRST) if value is None else value + bytes(more)
        cache.move_to_end(key)
        if len(cache) > capacity:
            cache.popitem(last=False)
    del value
    full, entries = memory.pss_mib(), len(cache)
    while len(cache) > capacity // 20:
        cache.popitem(last=False)
    gc.collect()
    dropped = memory.pss_mib()
    memory.light_activity(milliseconds)
    live = sum(map(len, cache.values()))
    return {
        "result": entries + live,
        "live_mib": live / 2**20,
        "built_mib": full,
        "dropped_mib": dropped,
        "released_mib": memory.pss_mib(),
    }
