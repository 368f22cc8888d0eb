# SPDX-License-Identifier: MIT
"""``slabmalloc doctor`` (floor 6): what this machine and this interpreter offer.

It changes nothing and always ends with status 0: it is what one sends along with a question.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import site
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slabmalloc.process import start_file
from slabmalloc.process.domains import stats
from slabmalloc.process.effect import faulty_variables, in_effect
from slabmalloc.switches import is_on

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["findings", "main", "version"]

Value = str | int | bool | None

HUGE_PAGES: Final = Path("/sys/kernel/mm/transparent_hugepage")
MOST_HUGE_BYTES: Final = 32 << 20


def main(arguments: Sequence[str]) -> int:
    """Prints the findings, as text or JSON; 0."""
    parser = argparse.ArgumentParser(prog="slabmalloc doctor", description="What this machine and interpreter offer.")
    parser.add_argument("--json", action="store_true", help="as JSON")
    found = findings()
    if parser.parse_args(arguments).json:
        print(json.dumps(found, indent=2))
        return 0
    for title, rows in found.items():
        print(title.replace("_", " "))
        for name, value in rows.items():
            print(f"  {_label(name):<30}{_text(name, value)}")
        if not rows:
            print("  none is set")
    return 0


def findings() -> dict[str, dict[str, Value]]:
    """Sections with their rows. In `domains` a text begins with "served", "can be served", or "not served".

    >>> sorted(findings())
    ['domains', 'interpreter', 'machine', 'slabmalloc', 'start_file', 'variables']
    """
    return {
        "slabmalloc": {
            "version": version(),
            "form": _form(),
            "hardened": stats().hardened,
            "huge_pages": _huge_pages(),
        },
        "start_file": _start_file(),
        "variables": _variables(),
        "interpreter": _interpreter(),
        "machine": _machine(),
        "domains": dict(in_effect()),
    }


def version() -> str:
    """The version of the installed package; 'unknown' when it runs from a source tree."""
    try:
        return importlib.metadata.version("slabmalloc")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _form() -> str:
    if is_on("SLABMALLOC_PURE"):
        return "pure Python, as SLABMALLOC_PURE asks"
    has_extension = importlib.util.find_spec("slabmalloc._native") is not None
    return "native" if has_extension else "pure Python: there is no native extension"


def _start_file() -> dict[str, Value]:
    """Where the start-up file of this environment is, and what came of it in this process."""
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    file = next((path for path in (Path(folder) / start_file.NAME for folder in folders) if path.is_file()), None)
    value = os.environ.get(start_file.VARIABLE)
    if start_file.outcome is not None:
        effect = start_file.outcome
    elif file is None:
        effect = "none: there is no start-up file in this environment"
    elif sys.flags.no_site:
        effect = "none: under -S an interpreter reads no start-up files"
    elif sys.flags.ignore_environment:
        effect = "none: under -E and -I an interpreter ignores environment variables"
    else:
        effect = f"none: {start_file.VARIABLE} asks for nothing"
    return {"file": str(file) if file else None, start_file.VARIABLE: value, "effect": effect}


def _variables() -> dict[str, Value]:
    """Those of ours that are set, with their values, and why one is not used."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("SLABMALLOC_")}
    faults = faulty_variables()
    return {
        name: f"{value!r} is not used: {faults[name]}" if name in faults else value
        for name, value in sorted(ours.items())
    }


def _huge_pages() -> str:
    """What follows from the machine's setting (core/slab/huge.h decides) for a program on slabmalloc."""
    bytes_each = _huge_page_bytes() or 0
    of_size = _chosen(_read(HUGE_PAGES / f"hugepages-{bytes_each // 1024}kB" / "enabled"))
    setting = _chosen(_read(HUGE_PAGES / "enabled")) if of_size in (None, "inherit") else of_size
    if setting in (None, "never"):
        return "none on this machine, with --huge-pages neither"
    if "THP_enabled:\t0" in (_read("/proc/self/status") or ""):
        return "none in this process, with --huge-pages neither: PR_SET_THP_DISABLE"
    larger = "where NumPy asks for them" if setting == "madvise" else "as the machine gives them"
    if bytes_each > MOST_HUGE_BYTES:
        return f"blocks above 128 KiB {larger}, others never: {bytes_each >> 20} MiB are too large"
    if stats().hardened or is_on("SLABMALLOC_HARDENED"):
        return f"blocks above 128 KiB {larger}, others never: --huge-pages has no effect in hardened mode"
    return f"with --huge-pages; without it blocks above 128 KiB {larger}"


def _huge_page_bytes() -> int | None:
    return _number(HUGE_PAGES / "hpage_pmd_size")


def _interpreter() -> dict[str, Value]:
    return {
        "implementation": platform.python_implementation(),
        "version": platform.python_version(),
        "executable": sys.executable,
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "shared_library": bool(sysconfig.get_config_var("Py_ENABLE_SHARED")),
        "PYTHONMALLOC": os.environ.get("PYTHONMALLOC"),
        "LD_PRELOAD": os.environ.get("LD_PRELOAD"),
    }


def _machine() -> dict[str, Value]:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    found: dict[str, Value] = {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "c_library": " ".join(platform.libc_ver()) or None,
        "processors": os.cpu_count(),
        "os_page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "memory_limit_bytes": _number("/sys/fs/cgroup/memory.max"),
        "address_space_limit_bytes": None if limit == resource.RLIM_INFINITY else limit,
        "overcommit_memory": _read("/proc/sys/vm/overcommit_memory"),
        "transparent_huge_pages": _chosen(_read(HUGE_PAGES / "enabled")),
        "transparent_huge_page_bytes": _huge_page_bytes(),
        "transparent_huge_pages_defrag": _chosen(_read(HUGE_PAGES / "defrag")),
    }
    for pool in sorted(Path("/sys/kernel/mm/hugepages").glob("hugepages-*")):
        size = pool.name.removeprefix("hugepages-")
        free, total = _read(pool / "free_hugepages"), _read(pool / "nr_hugepages")
        found[f"huge_pages_{size}"] = f"{free} free of {total}"
    return found


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _number(path: str | Path) -> int | None:
    """None also for the kernel's `max`."""
    text = _read(path)
    return int(text) if text is not None and text.isdigit() else None


def _chosen(words: str | None) -> str | None:
    """The word in brackets, as the kernel marks the setting in effect."""
    return None if words is None else words.partition("[")[2].partition("]")[0] or words


def _label(name: str) -> str:
    """For people; the name of an environment variable stays as it is."""
    return name if name.isupper() else name.removesuffix("_bytes").replace("_", " ")


def _text(name: str, value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _size(value) if name.endswith("_bytes") and isinstance(value, int) else str(value)


def _size(count: int) -> str:
    """Bytes as MiB, or as KiB where they are less than one."""
    return f"{count / 2**20:,.0f} MiB" if count >= 1 << 20 else f"{count / 2**10:,.0f} KiB"
