# SPDX-License-Identifier: MIT
"""Dictionaries that grow, shrink and are made anew: counters, an index, a sliding window."""

from __future__ import annotations

from collections import deque


def run(scale: int) -> int:
    """7,000 steps per unit of scale."""
    window: dict[str, dict[str, int]] = {}
    order: deque[str] = deque()
    index: dict[int, set[str]] = {}
    total = 0
    for step in range(7_000 * scale):
        key = f"session {step * 7919 % 1_000_003}"
        window[key] = {"step": step, "user": step % 977, "size": len(key)}
        order.append(key)
        index.setdefault(step % 977, set()).add(key)
        if len(window) > 10_000:
            oldest = order.popleft()
            entry = window.pop(oldest)
            total += entry["size"]
            index[entry["user"]].discard(oldest)
        if step % 50 == 0:
            words = [f"{key} {part}" for part in range(40)]
            total += len(dict(zip(words, range(40), strict=True)))
    return total + len(window) + sum(map(len, index.values()))
