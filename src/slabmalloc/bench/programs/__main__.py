# SPDX-License-Identifier: MIT
"""`python benchmarks/programs NAME NUMBER...`: one program, and what it says of itself as a line of JSON.

NAME is a module beside this file; its `run` gets the numbers, of which the first is the scale (100 is full size). What
it returns (a check sum, or figures) is printed with the processor time of `run` and the process's peak memory.
The programs know nothing of the allocator that they run on.
"""

from __future__ import annotations

import importlib
import json
import sys
import time

import memory


def main(words: list[str]) -> int:
    """Run, then tell."""
    program = importlib.import_module(words[0])
    before = time.process_time()
    said = program.run(*map(int, words[1:]))
    work = time.process_time() - before
    figures = said if isinstance(said, dict) else {"result": said}
    print(json.dumps({"work_s": work, "peak_mib": memory.peak_mib(), **figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
