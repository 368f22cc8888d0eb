#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Proves the floors of the core from its includes: a file uses its own room and rooms below, never one above.

Nor does the core include Python.h, or anyone a .c file; headers of system calls and of locks stand in few files; and
every source of the core is in its meson.build. Prints each offence; exit status 1 if there is one.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CORE = ROOT / "core"
FLOORS = ("include", "base", "slab", "zone", "heap")  # from the public header upwards
# Headers that few files may include, and why.
CONFINED = (
    (
        re.compile(r"sys/.+|unistd\.h|fcntl\.h"),
        {"slab/huge.c", "slab/os.c", "heap/addresses.c", "heap/arena.c"},
        "system calls",
    ),
    (re.compile(r"pthread\.h"), {"slab/os.c", "heap/large.h", "heap/space.h"}, "locks"),
)
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', re.MULTILINE)


def offences_of_core(path: Path, name: str) -> list[str]:
    """What is wrong with `path` of the core including `name`."""
    own, room = path.relative_to(CORE).parts[0], name.split("/")[0]
    found = []
    if name == "Python.h":
        found.append("the core knows nothing of Python")
    for headers, owners, what in CONFINED:
        if headers.fullmatch(name) and str(path.relative_to(CORE)) not in owners:
            found.append(f"{what} are the business of {' and '.join(sorted(owners))}")
    if "/" in name and room in FLOORS and FLOORS.index(room) > FLOORS.index(own):
        found.append(f"{room} is above {own}")
    return found


def offences(path: Path) -> list[str]:
    """What is wrong with the includes of one file."""
    found = []
    for name in INCLUDE.findall(path.read_text()):
        reasons = offences_of_core(path, name) if path.is_relative_to(CORE) else []
        if name.endswith(".c"):
            reasons.append("a source file is compiled, not included")
        found += [f"{path.relative_to(ROOT)} includes {name}: {reason}" for reason in reasons]
    return found


def main() -> int:
    """Print all offences, or that there is none."""
    folders = ("core", "bindings", "src", "tests", "fuzz", "examples", "benchmarks")
    files = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.[ch]"))
    found = [text for path in files for text in offences(path)]
    built = set(re.findall(r"'(\w+/\w+\.c)'", (CORE / "meson.build").read_text()))
    there = {str(path.relative_to(CORE)) for path in CORE.rglob("*.c")}
    found += [f"core/{name} is in the tree or in core/meson.build, but not in both" for name in sorted(built ^ there)]
    print("\n".join(found) if found else f"{len(files)} files include only what is below them")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
