# SPDX-License-Identifier: MIT
"""What a reader needs to judge the figures (floor 6): the machine, and the versions. Names no path and no user."""

from __future__ import annotations

import os
import platform
import re
import shlex
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .peers import c_library

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["command_line", "facts"]


def facts(peers: Mapping[str, str], compiler: str | None) -> dict[str, Any]:
    """`peers` are versions by name.

    >>> facts({}, None)["python"] == platform.python_version()
    True
    """
    return {
        "processor": _first(Path("/proc/cpuinfo"), "model name", platform.processor() or "unknown"),
        "processors": len(os.sched_getaffinity(0)),
        "memory_kib": _first(Path("/proc/meminfo"), "MemTotal", "unknown").removesuffix(" kB"),
        "transparent_huge_pages": _text(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "c_library": c_library(),
        "python": platform.python_version(),
        "compiler": compiler,
        "load_average": os.getloadavg(),
        "peers": dict(peers),
        "packages": {name: _package(name) for name in ("slabmalloc", "numpy", "pyarrow", "shared-allocator")},
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith("SLABMALLOC_")},
    }


def command_line(program: Sequence[str], words: Sequence[str]) -> str:
    """The command as the record keeps it: files by their names, since a path says nothing to others.

    >>> command_line(["slabmalloc", "bench"], ["--peer", "mine=/home/me/libmine.so", "--json=/tmp/out.json"])
    'slabmalloc bench --peer mine=libmine.so --json=out.json'
    """
    return shlex.join([*program, *(re.sub(r"^(--?[\w-]+=)?([^=/]*=)?[^=]*/", r"\1\2", word) for word in words)])


def _first(path: Path, key: str, otherwise: str) -> str:
    for line in _text(path).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return otherwise


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "unknown"


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
