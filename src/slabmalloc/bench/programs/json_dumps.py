# SPDX-License-Identifier: MIT
"""Orders printed as JSON: whole, one by one, and indented, which the encoder written in Python does."""

from __future__ import annotations

import json

import records


def run(scale: int) -> int:
    """140 orders per unit of scale."""
    orders = records.make(140 * scale)
    total = 0
    for _ in range(4):
        total += len(json.dumps(orders))
        total += sum(len(json.dumps(order, sort_keys=True)) for order in orders)
    return total + len(json.dumps(orders[::3], indent=2))
