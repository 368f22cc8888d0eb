# SPDX-License-Identifier: MIT
"""pools.py METHOD SECONDS CALM: a ProcessPoolExecutor whose workers are made by fork or by spawn, kept busy.

Tasks turn texts into tables, which come back by pickle; the parent keeps some of them, in waves many and few. It
compares each with what it computed itself before. Pools are renewed every 20 seconds, from a parent that has grown
meanwhile.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import time
import zlib
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

from told import Tally, tell

WORKERS, WAITING, KINDS = 2, 8, 48
MANY, FEW, WAVE, POOL_SECONDS = 80, 10, 160, 20
WORDS = [f"{head}{tail}" for head in ("al", "ber", "cor", "dun", "el", "for") for tail in ("an", "ic", "om", "ute")]


def table(kind: int) -> dict[str, Any]:
    """Words and where they stand, and the lines that have them."""
    chance = random.Random(kind)
    lines = [" ".join(chance.choices(WORDS, k=chance.randint(3, 12))) + f" {i % 500}" for i in range(1_000 + 60 * kind)]
    places: dict[str, list[tuple[int, int]]] = {}
    for number, line in enumerate(lines):
        for place, word in enumerate(line.split()):
            places.setdefault(word, []).append((number, place))
    rows = [
        {"line": line, "upper": line.upper(), "number": number} for number, line in enumerate(lines) if number % 4 == 0
    ]
    return {"kind": kind, "places": places, "rows": rows}


def check_sum(made: dict[str, Any]) -> int:
    """Of a table."""
    return zlib.crc32(repr((made["rows"], sorted(made["places"].items()))).encode())


def small(number: int) -> int:
    """A task of a quiet time."""
    return sum({index: str(index + number) for index in range(200)})


def main(method: str, seconds: float, calm: float) -> None:
    """Load, then calm."""
    held = [{"number": number, "text": f"row {number} " * 3} for number in range(200_000)]  # what forked workers share
    sums = {kind: check_sum(table(kind)) for kind in range(KINDS)}
    tally, kept = Tally(), deque[dict[str, Any]]()
    tell("load")
    while tally.seconds < seconds:
        limit = min(seconds, tally.seconds + POOL_SECONDS)
        with ProcessPoolExecutor(WORKERS, multiprocessing.get_context(method)) as pool:
            keep_busy(pool, tally, kept, sums, limit)
            if tally.seconds >= seconds:
                tell("calm", **tally.figures())
                kept.clear()
                end = time.monotonic() + calm
                while time.monotonic() < end:
                    assert pool.submit(small, 1).result(60) == small(1)
                    time.sleep(0.1)
                tell("end", held=len(held))


def keep_busy(
    pool: ProcessPoolExecutor, tally: Tally, kept: deque[dict[str, Any]], sums: dict[int, int], limit: float
) -> None:
    """Tasks until `limit`, and then those that wait."""
    waiting: set[Future[dict[str, Any]]] = set()
    while True:
        while tally.seconds < limit and len(waiting) < WAITING:
            waiting.add(pool.submit(table, tally.given % KINDS))
            tally.given += 1
        if not waiting:
            return
        done, waiting = wait(waiting, timeout=120, return_when=FIRST_COMPLETED)
        if not done:
            return  # they are lost, and counted as such
        for future in done:
            made = future.result()
            tally.done += 1
            tally.wrong += check_sum(made) != sums[made["kind"]]
            kept.append(made)
            while len(kept) > (MANY if tally.done % WAVE < WAVE / 2 else FEW):
                kept.popleft()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
