#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints the version, which stands in one place: `__version__` in src/slabmalloc/__init__.py."""

import re
from pathlib import Path

INIT = Path(__file__).parent.parent / "src" / "slabmalloc" / "__init__.py"

found = re.search(r'^__version__ = "(.+)"$', INIT.read_text(), re.MULTILINE)
if found is None:
    raise SystemExit(f"{INIT} has no line with __version__")
print(found[1])
