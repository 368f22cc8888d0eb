# SPDX-License-Identifier: MIT
"""Checks the models of the core's protocols with spin: each holds, and fails with any of its steps left out.

Usage: run.py [--full] [--only PROTOCOL] [--keep DIRECTORY]

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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SKIPPED = 77
AT_ONCE = min(2, os.cpu_count() or 1)


@dataclass(frozen=True)
class Case:
    """A model in one size, whole or with a step left out."""

    protocol: str
    definitions: str
    should_fail: bool


@dataclass(frozen=True)
class Result:
    """One exhaustive search: what was violated ("" for nothing), how many states there were, how long it took."""

    violation: str
    states: int
    seconds: float


@dataclass(frozen=True)
class Protocol:
    """A model, NAME.pml: sizes in which it holds, and what must not be left out, in the smallest size that shows it."""

    name: str
    quick: tuple[str, ...]  # small enough for every run of the tests
    full: tuple[str, ...]  # these take minutes and several GiB
    mutations: tuple[str, ...]  # each is told in README.md and at its #ifdef


PROTOCOLS = (
    Protocol(
        "remote_free",
        quick=(
            "LEVELS=1",
            "LEVELS=2 FREES=1 COLLECTS=2 REUSES=1",
            "LEVELS=2 SLABS=1 COLLECTS=2 REUSES=1",
            "LEVELS=2 SLABS=1 FREERS=3 FREES=1 COLLECTS=2 REUSES=0",
            "LEVELS=2 SLABS=1 COLLECTS=1 REUSES=0 DOUBLE_FREES",
            "LEVELS=3 SLABS=1 FREES=1 COLLECTS=1 REUSES=0",
        ),
        full=(
            "LEVELS=2 COLLECTS=2 REUSES=1",
            "LEVELS=2 COLLECTS=1 REUSES=0 DOUBLE_FREES",
            "LEVELS=3 SLABS=1 COLLECTS=1 REUSES=0",
            "LEVELS=3 SLABS=1 FREERS=3 FREES=1 COLLECTS=1 REUSES=0",
        ),
        mutations=(
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
        ),
    ),
    Protocol(
        "adoption",
        quick=("THREADS=2 LIVES=2", "THREADS=3 TRIMS=0"),
        full=("THREADS=2 LIVES=3", "THREADS=3 LIVES=2 TRIMS=0"),
        mutations=(
            "NO_LOCK",
            "OWNER_KEPT THREADS=3 TRIMS=0",
            "OWNER_KEPT_BY_OPEN THREADS=3 TRIMS=0",
            "GONE_WHILE_ENDING",
            "NO_ORPHANS",
            "NEXT_KEPT",
            "BORROWED_STAYS",
            "ASKED_LAST",
            "TRIM_UNHEARD",
            "ENDED_WITH_PAGE",
            "ENDED_FIRST LIVES=2",
            "ENDED_AND_ABANDONED",
            "STILL_LISTED",
        ),
    ),
    Protocol(
        "fork",
        quick=("",),
        full=(),
        mutations=(
            "NO_SPACE_LOCK",
            "NO_LARGE_LOCK",
            "LARGE_FIRST",
            "LOCKS_KEPT_IN_CHILD",
            "LOCKS_KEPT_IN_PARENT",
            "NOT_LOST",
            "BORROWED_IS_ABANDONED",
            "NAME_KEPT",
            "NOT_TOLD_AGAIN",
            "STACK_KEPT",
            "SUMMARY_KEPT",
        ),
    ),
    Protocol(
        "giveback",
        quick=("STEPS=5 OTHER_STEPS=2", "UNITS=2 STEPS=3 OTHER_STEPS=1"),
        full=("UNITS=2 STEPS=4 OTHER_STEPS=1", "UNITS=2 STEPS=3 OTHER_STEPS=2", "STEPS=6 OTHER_STEPS=3"),
        mutations=(
            "TAKEN_WITHOUT_LOCK",
            "PURGED_WITHOUT_LOCK",
            "JOINED_LATE",
            "GIVEN_FIRST",
            "EMPTY_BY_BOTH",
            "PURGED_KEPT",
            "SWEEP_OF_OTHERS",
        ),
    ),
)


def search(case: Case, directory: Path) -> Result:
    """Builds the checker of one case and runs it to the end, or to the first violation."""
    start = time.monotonic()
    directory.mkdir(parents=True)
    definitions = case.definitions
    macros = [f"-D{definition}" for definition in definitions.split()]
    compiler = os.environ.get("CC", "gcc").split()
    # What fails does so soon: there the compiler would take longer than the search.
    level = "-O0" if case.should_fail else "-O1"
    model = str(HERE / f"{case.protocol}.pml")
    subprocess.run(["spin", "-a", *macros, model], cwd=directory, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*compiler, level, "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c"], cwd=directory, check=True)
    output = subprocess.run(["./pan", "-m1000000"], cwd=directory, check=True, capture_output=True, text=True).stdout
    errors = re.search(r"errors: (\d+)", output)
    states = re.search(r"(\d+) states, stored", output)
    if (
        errors is None
        or states is None
        or ("Search not completed" in output and errors[1] == "0")
        or "too small" in output
    ):
        sys.exit(f"{case.protocol} {definitions}: the search came to no end\n{output}")
    violation = re.search(r"^pan:1: (.*) \(at depth", output, re.MULTILINE)
    if errors[1] != "0" and violation is None:
        sys.exit(f"{case.protocol} {definitions}: an error without a reason\n{output}")
    violated = violation[1] if violation and errors[1] != "0" else ""
    return Result(violated, int(states[1]), time.monotonic() - start)


def main() -> int:
    """Runs everything asked for; 0 if the protocol holds everywhere and every mutation is found out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the large configurations as well (minutes, several GiB)")
    parser.add_argument("--only", choices=[protocol.name for protocol in PROTOCOLS], help="the models of one protocol")
    parser.add_argument("--keep", type=Path, help="leave checkers and trails in this directory, which must not exist")
    options = parser.parse_args()
    if shutil.which("spin") is None:
        print("skipped: spin is not installed")
        return SKIPPED
    root = options.keep or Path(tempfile.mkdtemp(prefix="slabmalloc-spin-"))
    cases = []
    for protocol in PROTOCOLS:
        if options.only in (None, protocol.name):
            sizes = protocol.quick + (protocol.full if options.full else ())
            cases += [Case(protocol.name, size, should_fail=False) for size in sizes]
            cases += [Case(protocol.name, mutation, should_fail=True) for mutation in protocol.mutations]
    failed = 0
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = pool.map(search, cases, (root / str(number) for number in range(len(cases))))
            for case, result in zip(cases, found, strict=True):
                is_right = bool(result.violation) == case.should_fail
                failed += not is_right
                outcome = f"found: {result.violation}" if result.violation else "holds"
                print(
                    f"{'ok  ' if is_right else 'FAIL'} {f'{case.protocol} {case.definitions}':<66} {outcome} "
                    f"({result.states:,} states, {result.seconds:.1f} s)",
                    flush=True,
                )
    finally:
        if not options.keep:
            shutil.rmtree(root)
    print(f"{len(cases) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
