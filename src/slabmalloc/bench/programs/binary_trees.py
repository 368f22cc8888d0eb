# SPDX-License-Identifier: MIT
"""Binary trees of tuples: one that stays, many that come and go."""

from __future__ import annotations

from typing import Any

Tree = tuple[Any, Any]


def grow(nodes: int) -> Tree | None:
    """A balanced tree of so many nodes."""
    if nodes == 0:
        return None
    left = (nodes - 1) // 2
    return grow(left), grow(nodes - 1 - left)


def count(tree: Tree | None) -> int:
    """Its nodes, visited."""
    return 0 if tree is None else 1 + count(tree[0]) + count(tree[1])


def run(scale: int) -> int:
    """The kept tree has 5,000 nodes per unit of scale, the others 27,000 in all."""
    kept = grow(5_000 * scale)
    total = 0
    for _ in range(scale):
        total += sum(count(grow(size)) for size in (31, 127, 511, 2047) for _ in range(10))
    return total + count(kept)
