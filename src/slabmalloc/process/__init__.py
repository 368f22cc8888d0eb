# SPDX-License-Identifier: MIT
"""The process allocator (floor 5): slabmalloc under the interpreter that runs this very line.

`install` puts CPython's domains and NumPy's data on slabmalloc from now on, `stats` tells what came of it, `trim` gives
back what is free at once. `preload` turns this process into a program on the preload library, for ``slabmalloc run``;
`in_process` and `launcher` run one in this interpreter; `start_file` does either where an environment variable asks for
it. Names are loaded when they are first used, as in the package above.
"""

from __future__ import annotations

__all__ = ["DomainStats", "ProcessStats", "SizeClassStats", "install", "refusals", "stats", "summary", "trim"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .domains import install, refusals, stats, summary, trim
    from .records import DomainStats, ProcessStats, SizeClassStats


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = "records" if name.endswith("Stats") else "domains"
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value
