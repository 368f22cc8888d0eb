# SPDX-License-Identifier: MIT
"""Environment variables that are on or off (floor 5), read as the library in C reads them (bindings/options.c).

A module of its own, which imports next to nothing: a program's start waits for it.
"""

from __future__ import annotations

import os

__all__ = ["OFF", "is_on"]

OFF = ("", "0", "no", "false", "off")
"""The words that mean off, in capitals too; whatever else is there means on."""


def is_on(name: str) -> bool:
    """True if the environment has the switch on.

    >>> is_on("NO_SUCH_SWITCH")
    False
    """
    return os.environ.get(name, "").lower() not in OFF
