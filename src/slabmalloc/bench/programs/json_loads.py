# SPDX-License-Identifier: MIT
"""A JSON document parsed again and again; the one before lives until the next is there."""

from __future__ import annotations

import json

import records


def run(scale: int) -> int:
    """Eight times 140 orders per unit of scale."""
    text = json.dumps(records.make(140 * scale))
    total = 0
    for _ in range(8):
        document = json.loads(text)
        total += sum(order["number"] for order in document)
    return total
