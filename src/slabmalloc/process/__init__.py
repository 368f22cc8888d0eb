# SPDX-License-Identifier: MIT
"""The process allocator (floor 5): slabmalloc under the interpreter that runs this very line.

`install` puts CPython's own domains on slabmalloc from now on, `stats` tells what came of it, `trim` gives back what is
free at once. `launcher` runs a program as ``python`` would, for ``slabmalloc run``.
"""

from .install import install, refusals, stats, trim
from .records import DomainStats, ProcessStats

__all__ = ["DomainStats", "ProcessStats", "install", "refusals", "stats", "trim"]
