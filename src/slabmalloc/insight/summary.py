# SPDX-License-Identifier: MIT
"""What slabmalloc did for a program (floor 6): the report at the end of ``slabmalloc run``, as text or as JSON.

The text is for people and may change; the JSON has the field names of `ProcessStats` and `DomainStats`, and keeps them.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slabmalloc.process.records import ProcessStats

__all__ = ["summary_json", "summary_text"]


def summary_text(stats: ProcessStats, wall_seconds: float) -> str:
    """A heading, a row per domain, and two lines on the heap; ends with a newline.

    >>> from slabmalloc.process import DomainStats, ProcessStats
    >>> obj = DomainStats(1200, 3 << 20, freed_blocks=1100, passed_blocks=7, passed_bytes=1 << 20)
    >>> stats = ProcessStats({"obj": obj}, live_objects=100, mapped_bytes=65536, peak_mapped_bytes=4 << 20)
    >>> print(summary_text(stats, 1.5), end="")  # doctest: +ELLIPSIS
    slabmalloc: 1.50 s on Python ...
      domain            served                    passed on                         freed
      obj                1,200       3.0 MiB              7       1.0 MiB           1,100
      heap     live 0.0 MiB in 100 blocks, mapped 0.1 MiB, peak 4.0 MiB, given back 0.0 MiB
    """
    lines = [
        f"slabmalloc: {wall_seconds:.2f} s on Python {_python_version()}",
        f"  {'domain':<8}{'served':>16}{'':14}{'passed on':>15}{'':14}{'freed':>16}".rstrip(),
    ]
    for name, row in stats.domains.items():
        lines.append(
            f"  {name:<8}{row.served_blocks:>16,}{_mebibytes(row.served_bytes):>14}"
            f"{row.passed_blocks:>15,}{_mebibytes(row.passed_bytes):>14}{row.freed_blocks:>16,}"
        )
    lines.append(
        f"  heap     live {_mebibytes(stats.live_bytes)} in {stats.live_objects:,} blocks, "
        f"mapped {_mebibytes(stats.mapped_bytes)}, "
        f"peak {_mebibytes(stats.peak_mapped_bytes)}, given back {_mebibytes(stats.given_back_bytes)}"
    )
    return "\n".join(lines) + "\n"


def summary_json(stats: ProcessStats, wall_seconds: float) -> str:
    """One JSON object on one line: `wall_seconds`, `python`, and the fields of `ProcessStats`; ends with a newline.

    >>> from slabmalloc.process import ProcessStats
    >>> json.loads(summary_json(ProcessStats(), 2.0))["wall_seconds"]
    2.0
    """
    record: dict[str, Any] = {"wall_seconds": wall_seconds, "python": _python_version(), **stats.to_dict()}
    return json.dumps(record) + "\n"


def _python_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
