# SPDX-License-Identifier: MIT
"""How far it is (floor 6): a line that is written over on a terminal; elsewhere a line for each section and round."""

from __future__ import annotations

import shutil
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from .schedule import Step

__all__ = ["Progress"]


class Progress:
    """On one stream."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._last: object = None

    def tell(self, step: Step, place: int, count: int) -> None:
        """`step` begins, the `place`-th of `count`."""
        share = f"[{100 * (place - 1) // count:3} %] round {step.number + 1}, {step.section}"
        if self._is_terminal:
            self.say(f"{share}: {step.name}")
        elif self._last != (step.number, step.section):
            self._last = step.number, step.section
            self.say(share)

    def say(self, text: str) -> None:
        """One line."""
        if self._is_terminal:
            columns = shutil.get_terminal_size().columns
            print(f"\r\033[K{text[: columns - 1]}", end="", file=self._stream, flush=True)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leaves the terminal's line empty."""
        if self._is_terminal:
            print("\r\033[K", end="", file=self._stream, flush=True)
