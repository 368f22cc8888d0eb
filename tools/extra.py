#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints the requirements of one extra of pyproject.toml, a line each, for an environment without the package itself."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
print("\n".join(project["optional-dependencies"][sys.argv[1]]))
