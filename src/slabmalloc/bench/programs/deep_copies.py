# SPDX-License-Identifier: MIT
"""`copy.deepcopy` of orders: the copier written in Python, its memo, its lists and dictionaries."""

from __future__ import annotations

import copy

import records


def run(scale: int) -> int:
    """120 orders per unit of scale, copied twice; then a hundred small copies."""
    orders = records.make(120 * scale)
    first = copy.deepcopy(orders)
    second = copy.deepcopy(first)
    small = [copy.deepcopy(order) for order in orders[:100]]
    return len(second) + sum(int(order["number"]) for order in small)
