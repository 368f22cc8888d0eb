# SPDX-License-Identifier: MIT
"""``python -m slabmalloc`` is ``slabmalloc`` (floor 6)."""

import sys

from slabmalloc.cli import main

if __name__ == "__main__":
    sys.exit(main())
