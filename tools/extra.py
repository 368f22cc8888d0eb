#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""extra.py NAME: the requirements of one extra of pyproject.toml, a line each, for an environment without the package.

The name `build` is none of the extras: it is what an isolated build requires, ninja included, which meson-python adds by itself.
"""

import sys
import tomllib
from pathlib import Path

settings = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
extras = {"build": [*settings["build-system"]["requires"], "ninja"], **settings["project"]["optional-dependencies"]}
print("\n".join(extras[sys.argv[1]]))
