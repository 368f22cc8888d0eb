# SPDX-License-Identifier: MIT
"""Threads started and ended, four at a time; what each leaves behind is the growth of memory."""

from __future__ import annotations

import threading

import memory


def work() -> None:
    """A little of everything that a thread allocates."""
    [bytes(size) for size in (10, 100, 1_000, 10_000, 100_000)]
    {number: str(number) for number in range(200)}


def run_threads(count: int) -> None:
    """So many, in groups of four."""
    for _ in range(count // 4):
        group = [threading.Thread(target=work) for _ in range(4)]
        for thread in group:
            thread.start()
        for thread in group:
            thread.join()


def run(scale: int) -> dict[str, float]:
    """100 threads per unit of scale; the growth is that since the first tenth."""
    run_threads(10 * scale)
    first = memory.pss_mib()
    run_threads(90 * scale)
    last = memory.pss_mib()
    return {"first_mib": first, "last_mib": last, "growth_mib": last - first}
