# SPDX-License-Identifier: MIT
"""`python src/slabmalloc/bench/programs NAME NUMBER... [times=N]`: one program, and what it says of itself as JSON.

NAME is a module beside this file; its `run` gets the numbers, of which the first is the scale (100 is full size). What
it returns (a check sum, or figures) is printed with the processor time of `run` and the process's peak memory.
A program that returns a check sum may run several times, which makes it longer and leaves the peak where it is; the
sums are added up. The programs know nothing of the allocator that they run on.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time

import memory


def main(words: list[str]) -> int:
    """Run, then tell."""
    name, *numbers = words
    times = int(numbers.pop().removeprefix("times=")) if numbers[-1].startswith("times=") else 1
    program, scale = importlib.import_module(name), [int(number) for number in numbers]
    before = time.process_time()
    said = program.run(*scale)
    for _ in range(times - 1):
        gc.collect()  # each run begins with what the first began with, also where objects refer to each other
        said += program.run(*scale)
    work = time.process_time() - before
    figures = said if isinstance(said, dict) else {"result": said}
    print(json.dumps({"work_s": work, "peak_mib": memory.peak_mib(), **figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
