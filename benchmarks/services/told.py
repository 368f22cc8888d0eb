# SPDX-License-Identifier: MIT
"""How a program that brings its own load tells the harness where it is: a line of JSON for each step."""

from __future__ import annotations

import json
import time
from typing import Any


def tell(step: str, **figures: Any) -> None:
    """`load`: it begins; `calm`: the load is over, and what it came to; `end`: nothing follows."""
    print(json.dumps({"step": step, **figures}), flush=True)


class Tally:
    """Tasks that were given out, and what became of them."""

    def __init__(self) -> None:
        self.given = self.done = self.wrong = 0
        self.start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.start

    def figures(self) -> dict[str, float]:
        """For `tell`: of what was given, `lost` has no answer."""
        lost = self.given - self.done
        return {"requests": self.done, "seconds": self.seconds, "lost": lost, "wrong": self.wrong}
