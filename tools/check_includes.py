#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Proves the floors of the core from its includes: a file uses its own room and rooms below, never one above.

Nor does the core include Python.h, or anyone a .c file. Prints each offence; exit status 1 if there is one.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CORE = ROOT / "core"
FLOORS = ("base", "slab", "zone", "heap")  # the public header is below all of them
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', re.MULTILINE)


def offences(path: Path) -> list[str]:
    """What is wrong with the includes of one file."""
    found = []
    own = path.relative_to(CORE).parts[0] if path.is_relative_to(CORE) else None
    for name in INCLUDE.findall(path.read_text()):
        room = name.split("/")[0] if "/" in name else None
        if name.endswith(".c"):
            found.append(f"includes the source file {name}")
        if own is None:
            continue
        if name == "Python.h":
            found.append("includes Python.h, which no file of the core may")
        if own == "include" and room in FLOORS:
            found.append(f"is the public header, but includes {name}")
        if own in FLOORS and room in FLOORS and FLOORS.index(room) > FLOORS.index(own):
            found.append(f"is on the floor {own}, but includes {name}, from above")
    return [f"{path.relative_to(ROOT)}: {text}" for text in found]


def main() -> int:
    files = sorted(path for folder in ("core", "bindings", "tests", "fuzz") for path in (ROOT / folder).rglob("*.[ch]"))
    found = [text for path in files for text in offences(path)]
    print("\n".join(found) if found else f"{len(files)} files include only what is below them")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
