# SPDX-License-Identifier: MIT
"""`a + b`, whose result is new memory, against `np.add(a, b, out=c)`, whose is not; in turns, in one process."""

from __future__ import annotations

import statistics
import time

import numpy as np


def run(mebibytes: int, slices: int, milliseconds: int) -> dict[str, float]:
    """Medians over so many slices of at least so many milliseconds each, in ms an addition."""
    count = mebibytes * 2**20 // 8
    a, b, c = np.ones(count), np.ones(count), np.ones(count)

    def fresh() -> None:
        a + b  # made and dropped

    def reused() -> None:
        np.add(a, b, out=c)

    seen: dict[str, list[float]] = {"fresh_ms": [], "reused_ms": [], "ratio": []}
    for number in range(slices + 1):  # the first warms up
        for name, function in (("fresh_ms", fresh), ("reused_ms", reused)):
            start = now = time.process_time()
            additions = 0
            while now - start < milliseconds / 1000:
                function()
                additions += 1
                now = time.process_time()
            if number:
                seen[name].append((now - start) / additions * 1000)
        if number:
            seen["ratio"].append(seen["fresh_ms"][-1] / seen["reused_ms"][-1])
    return {name: statistics.median(values) for name, values in seen.items()}
