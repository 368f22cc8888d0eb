# SPDX-License-Identifier: MIT
"""Records of a shop's orders, the same each time: what several programs parse, print, copy and store."""

from __future__ import annotations

import random
from typing import Any

Record = dict[str, Any]

_WORDS = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heath", "inlet", "jetty", "knoll", "larch")


def make(count: int, seed: int = 1) -> list[Record]:
    """So many orders, a dozen objects each, of the kinds that JSON knows."""
    chance = random.Random(seed)
    return [_order(number, chance) for number in range(count)]


def _order(number: int, chance: random.Random) -> Record:
    return {
        "number": number,
        "customer": {"name": f"{chance.choice(_WORDS)} {chance.choice(_WORDS)}", "since": 1980 + chance.randrange(45)},
        "paid": chance.random() < 0.9,
        "total": round(chance.uniform(1, 5000), 2),
        "lines": [_line(chance) for _ in range(chance.randrange(1, 5))],
        "note": " ".join(chance.choices(_WORDS, k=chance.randrange(12))) or None,
    }


def _line(chance: random.Random) -> Record:
    return {
        "article": f"{chance.choice(_WORDS)}-{chance.randrange(100_000):05}",
        "pieces": chance.randrange(1, 400),
        "tags": chance.choices(_WORDS, k=2),
    }
