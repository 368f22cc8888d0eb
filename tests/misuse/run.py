# SPDX-License-Identifier: MIT
"""run.py DIRECTORY: runs the programs of the C API, built already, and compares what each prints and its exit code.

A program prints the text of the status that it got and exits with the status itself; 99 means that something else was
harmed.
"""

import subprocess
import sys
from pathlib import Path

from corpus import HERE, expected

directory = Path(sys.argv[1])
failed, programs = 0, sorted((HERE / "c").glob("*.c"))
for source in programs:
    said = expected(source)
    done = subprocess.run([str(directory / source.stem)], capture_output=True, text=True, timeout=60)
    if (done.stdout, done.stderr, done.returncode) != (said["prints"] + "\n", "", int(said["exits"])):
        print(f"{source.stem}: {done.stdout!r} {done.stderr!r}, exit {done.returncode}; not {said}")
        failed += 1
print(f"{len(programs) - failed} passed, {failed} failed")
sys.exit(failed > 0 or not programs)
