# SPDX-License-Identifier: MIT
"""A server that forks its workers: a large heap, frozen; a child with a little work. What it has copied of the heap."""

from __future__ import annotations

import gc
import os
import random

import memory
import release_mixed

WORK = 10_000
"""Objects that the child makes and drops."""
REQUESTS = 20
"""How often it does so once more, as a server does for each request."""


def run(scale: int, dropped_per_mille: int, milliseconds: int) -> dict[str, float]:
    """12,000 objects per unit of scale, some dropped before the fork; in the child work, then a little activity."""
    chance = random.Random(1)
    objects = [release_mixed.mixed(number) for number in range(12_000 * scale)]
    objects = [thing for thing in objects if chance.random() * 1000 >= dropped_per_mille]
    place: list[object] = [None] * WORK
    gc.collect()
    gc.freeze()
    memory.private_dirty_mib()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for number in range(WORK):
                place[number] = release_mixed.mixed(number)
            worked = memory.private_dirty_mib()
            for _ in range(REQUESTS):
                for number in range(WORK):
                    place[number] = release_mixed.mixed(number)
            served = memory.private_dirty_mib()
            for number in range(WORK):
                place[number] = None
            memory.light_activity(milliseconds)
            os.write(writer, f"{worked} {served} {memory.private_dirty_mib()}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        worked, served, idle = map(float, told.read().split())
    os.waitpid(child, 0)
    return {"result": len(objects), "worked_mib": worked, "served_mib": served, "idle_mib": idle}
