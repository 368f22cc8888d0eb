# SPDX-License-Identifier: MIT
"""(e) Eight threads with bursts of JSON and NumPy, which then wait for work; the main thread answers small requests, or
sleeps.
"""

from __future__ import annotations

import gc
import json
import random
import threading
import time
from contextlib import suppress
from typing import Any

import memory
import records

numpy: Any = None
with suppress(ImportError):
    import numpy

THREADS = 8


def burst(text: str, chance: random.Random, cells: int) -> list[Any]:
    """Parse, compute, print; one order in 200 is kept."""
    orders = json.loads(text)
    kept = [order for order in orders if chance.random() < 0.005]
    if numpy is not None:
        totals = numpy.array([order["total"] for order in orders])
        table = numpy.outer(totals[: cells // 64], numpy.arange(64.0))
        table = (table + 1.0) * table - table.mean(axis=0)
        kept.append(table[:4].copy())
    kept.append(len(json.dumps(orders)))
    return kept


def run(scale: int, milliseconds: int, is_serving: int = 1) -> dict[str, float]:
    """80 orders per unit of scale and burst, six bursts a thread; then all is quiet, but for small requests."""
    text = json.dumps(records.make(80 * scale))
    kept: list[list[Any]] = [[] for _ in range(THREADS)]
    done, quit_now = threading.Barrier(THREADS + 1), threading.Event()

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(6):
            kept[number] += burst(text, chance, 5_000 * scale)
            time.sleep(0.01)
        done.wait()
        quit_now.wait()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    done.wait()
    gc.collect()
    dropped = memory.pss_mib()
    if is_serving:
        memory.light_activity(milliseconds)
    else:
        time.sleep(milliseconds / 1000)
    released = memory.pss_mib()
    quit_now.set()
    for thread in threads:
        thread.join()
    orders = sum(len(part) for part in kept)
    return {"result": orders, "dropped_mib": dropped, "released_mib": released, "numpy": float(numpy is not None)}
