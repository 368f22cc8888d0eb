# SPDX-License-Identifier: MIT
"""(c) A large JSON document parsed twenty times; of each parse a few nodes stay, at random."""

from __future__ import annotations

import gc
import json
import random
from typing import TYPE_CHECKING, Any

import memory
import records

if TYPE_CHECKING:
    from collections.abc import Iterator


def nodes(document: list[records.Record]) -> Iterator[records.Record]:
    """The innermost dictionaries, each of some five to ten objects."""
    for order in document:
        yield order["customer"]
        yield from order["lines"]


def run(scale: int, milliseconds: int) -> dict[str, float]:
    """150 orders per unit of scale; 0.8 % of the innermost nodes of each parse kept."""
    text = json.dumps(records.make(150 * scale))
    gc.collect()
    chance = random.Random(1)
    kept: list[Any] = []
    for _ in range(20):
        document = json.loads(text)
        kept += [node for node in nodes(document) if chance.random() < 0.008]
    built = memory.pss_mib()
    del document, text
    gc.collect()
    dropped = memory.pss_mib()
    memory.light_activity(milliseconds)
    return {"result": len(kept), "built_mib": built, "dropped_mib": dropped, "released_mib": memory.pss_mib()}
