# SPDX-License-Identifier: MIT
"""The line of a process that stops at a wrong free, to the letter."""

from __future__ import annotations

import re

# What the line of a process that stops ends with, by whether there is a CPython.
WAYS = {
    True: "; to see more set SLABMALLOC_BACKTRACE=1 (C stack) or PYTHONFAULTHANDLER=1 (Python stack)",
    False: "; to see more set SLABMALLOC_BACKTRACE=1 (C stack), or run it in a debugger",
}
MEDIUM_FROM_BYTES = 8192  # larger slots are on pages of 1 MiB


def stop_line(text: str, address: int, *, is_python: bool = True) -> str:
    """The line of a process that stops, `text` being what is said of ADDRESS; SLOT follows from that."""

    def slot(match: re.Match[str]) -> str:
        size = int(match[1])
        page = 1 << 16 if size <= MEDIUM_FROM_BYTES else 1 << 20
        return f"slot {address % page // size} of a {size}-byte"

    text = re.sub(r"slot SLOT of a (\d+)-byte", slot, text).replace("ADDRESS", f"{address:#x}")
    return f"slabmalloc: {text}{WAYS[is_python]}\n"
