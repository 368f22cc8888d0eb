# SPDX-License-Identifier: MIT
"""list_files.py DIRECTORY PATTERN...: the files below DIRECTORY that match, a line each, relative to it.

meson.build asks for tests and modules this way, so that a new one can't be forgotten; only the core is listed by name.
Hidden files are left out.
"""

import sys
from pathlib import Path

root = Path(sys.argv[1])
names = {path.relative_to(root) for pattern in sys.argv[2:] for path in root.glob(pattern)}
print("\n".join(sorted(str(name) for name in names if not any(part.startswith(".") for part in name.parts))))
