# SPDX-License-Identifier: MIT
"""Checks the model of the remote-free protocol with spin: the protocol holds, and fails with any step left out.

Usage: run.py [--full] [--keep DIRECTORY]

Every configuration is searched exhaustively. A mutation that passes is an error as much as a protocol that fails: it
would show that the model no longer sees what it was made to see. Needs `spin` and a C compiler; exit status 77 (skip)
where there is no spin.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("remote_free.pml")
SKIPPED = 77


@dataclass(frozen=True)
class Result:
    """One exhaustive search: what was violated ("" for nothing), and how many states there were."""

    violation: str
    states: int


# Small enough together for every run of the tests ...
QUICK = (
    "LEVELS=1",
    "LEVELS=2 FREES=1 COLLECTS=2 REUSES=1",
    "LEVELS=2 SLABS=1 COLLECTS=2 REUSES=1",
    "LEVELS=2 SLABS=1 FREERS=3 FREES=1 COLLECTS=2 REUSES=0",
    "LEVELS=2 SLABS=1 COLLECTS=1 REUSES=0 DOUBLE_FREES",
    "LEVELS=3 SLABS=1 FREES=1 COLLECTS=1 REUSES=0",
)
# ... and what takes minutes and several GiB.
FULL = (
    "LEVELS=2 COLLECTS=2 REUSES=1",
    "LEVELS=2 COLLECTS=1 REUSES=0 DOUBLE_FREES",
    "LEVELS=3 SLABS=1 COLLECTS=1 REUSES=0",
    "LEVELS=3 SLABS=1 FREERS=3 FREES=1 COLLECTS=1 REUSES=0",
)
# What each leaves out is said in README.md and at its #ifdef.
MUTATIONS = (
    "NO_SUMMARY",
    "TOP_FIRST",
    "PUSH_ALWAYS",
    "PUSH_WITHOUT_CAS",
    "PLAIN_OR",
    "UNCHECKED_BIT DOUBLE_FREES",
    "POP_WITHOUT_EXCHANGE",
    "LINK_READ_LATE",
    "LEAVES_FIRST",
    "PLAIN_TAKE",
    "TAKE_UNPOPPED",
    "PENDING_FLAG",
    "PENDING_FLAG FLAG_CLEARED_LATE",
)


def search(definitions: str, directory: Path) -> Result:
    """Builds the checker of one configuration and runs it to the end, or to the first violation."""
    directory.mkdir(parents=True)
    macros = [f"-D{definition}" for definition in definitions.split()]
    compiler = os.environ.get("CC", "gcc").split()
    subprocess.run(["spin", "-a", *macros, str(MODEL)], cwd=directory, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*compiler, "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c"], cwd=directory, check=True)
    output = subprocess.run(["./pan", "-m1000000"], cwd=directory, check=True, capture_output=True, text=True).stdout
    errors = re.search(r"errors: (\d+)", output)
    states = re.search(r"(\d+) states, stored", output)
    if (
        errors is None
        or states is None
        or ("Search not completed" in output and errors[1] == "0")
        or "too small" in output
    ):
        sys.exit(f"{definitions}: the search came to no end\n{output}")
    violation = re.search(r"^pan:1: (.*) \(at depth", output, re.MULTILINE)
    if errors[1] != "0" and violation is None:
        sys.exit(f"{definitions}: an error without a reason\n{output}")
    return Result(violation[1] if violation and errors[1] != "0" else "", int(states[1]))


def main() -> int:
    """Runs everything asked for; 0 if the protocol holds everywhere and every mutation is found out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the large configurations as well (minutes, several GiB)")
    parser.add_argument("--keep", type=Path, help="leave checkers and trails in this directory, which must not exist")
    options = parser.parse_args()
    if shutil.which("spin") is None:
        print("skipped: spin is not installed")
        return SKIPPED
    root = options.keep or Path(tempfile.mkdtemp(prefix="slabmalloc-spin-"))
    cases = [(definitions, False) for definitions in QUICK + (FULL if options.full else ())]
    cases += [(f"LEVELS=2 {mutation}", True) for mutation in MUTATIONS]
    failed = 0
    try:
        for number, (definitions, should_fail) in enumerate(cases):
            start = time.monotonic()
            result = search(definitions, root / str(number))
            is_right = bool(result.violation) == should_fail
            failed += not is_right
            outcome = f"found: {result.violation}" if result.violation else "holds"
            print(
                f"{'ok  ' if is_right else 'FAIL'} {definitions:<55} {outcome} "
                f"({result.states:,} states, {time.monotonic() - start:.1f} s)",
                flush=True,
            )
    finally:
        if not options.keep:
            shutil.rmtree(root)
    print(f"{len(cases) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
