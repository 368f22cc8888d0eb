# SPDX-License-Identifier: MIT
"""Runs the programs of this directory, one per misuse of the C API, and compares what each prints and its exit code.

Usage: run.py [--programs DIRECTORY] [NAME...]

Without --programs each program is built first, with $CC (gcc) and $CFLAGS, from the sources of the core. A program
prints the text of the status that it got and exits with the status itself; 99 means that something else was harmed.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# The public contract, written out once more: the text and number of every status.
OUT_OF_MEMORY = ("out of memory: no free slot and no page", 1)
INVALID_LAYOUT = ("invalid layout: no size class serves this size and alignment", 2)
FREE_FOREIGN = ("invalid free: the address is on no page of this zone", 3)
FREE_WRONG_CLASS = ("invalid free: the address belongs to another size class", 4)
FREE_INTERIOR = ("invalid free: no object begins at this address", 5)
FREE_DOUBLE = ("double free: the object is free already", 6)
PAGE_MISALIGNED = ("invalid page: the address is not aligned to the page's size", 7)
PAGE_SIZE = ("invalid page: its size is not the one that this class takes", 8)
PAGE_IN_USE = ("invalid page: its memory is in use by a zone", 9)
PAGE_UNREADABLE = ("invalid page: it carries no slab, or a torn one", 10)
PAGE_CLASS = ("invalid page: its slab is of no size class of this zone", 11)

EXPECTED = {
    "allocate_bad_alignment": INVALID_LAYOUT,
    "allocate_size_zero": INVALID_LAYOUT,
    "allocate_too_large": INVALID_LAYOUT,
    "allocate_without_page": OUT_OF_MEMORY,
    "free_after_reclaim": FREE_FOREIGN,
    "free_bad_alignment": INVALID_LAYOUT,
    "free_foreign": FREE_FOREIGN,
    "free_interior": FREE_INTERIOR,
    "free_many_with_repetition": FREE_DOUBLE,
    "free_metadata": FREE_INTERIOR,
    "free_never_allocated": FREE_DOUBLE,
    "free_null": FREE_FOREIGN,
    "free_of_other_zone": FREE_FOREIGN,
    "free_size_zero": INVALID_LAYOUT,
    "free_twice": FREE_DOUBLE,
    "free_twice_after_another_thread": FREE_DOUBLE,
    "free_twice_by_another_thread": FREE_DOUBLE,
    "free_wrong_layout": FREE_WRONG_CLASS,
    "heap_free_foreign": FREE_FOREIGN,
    "heap_free_interior": FREE_INTERIOR,
    "heap_free_twice": FREE_DOUBLE,
    "heap_free_twice_remotely": FREE_DOUBLE,
    "refill_bad_layout": INVALID_LAYOUT,
    "refill_misaligned": PAGE_MISALIGNED,
    "refill_null": PAGE_MISALIGNED,
    "refill_page_of_other_zone": PAGE_IN_USE,
    "refill_twice": PAGE_IN_USE,
    "refill_wrong_page_size": PAGE_SIZE,
    "restore_nothing": PAGE_UNREADABLE,
    "restore_other_class": PAGE_CLASS,
    "restore_torn": PAGE_UNREADABLE,
}


def build(names: list[str], directory: Path) -> None:
    """Compiles the core once and every program against it."""
    compiler = [
        *shlex.split(os.environ.get("CC", "gcc")),
        "-std=c11",
        "-g",
        *shlex.split(os.environ.get("CFLAGS", "-O1")),
    ]
    includes = [f"-I{ROOT / 'core' / 'include'}", f"-I{ROOT / 'core'}", f"-I{HERE}"]
    sources = sorted(map(str, (ROOT / "core").glob("*/*.c")))
    subprocess.run([*compiler, *includes, "-c", *sources], cwd=directory, check=True)
    objects = sorted(map(str, directory.glob("*.o")))
    for name in names:
        subprocess.run(
            [*compiler, *includes, str(HERE / f"{name}.c"), *objects, "-o", str(directory / name), "-lpthread"],
            check=True,
        )


def main() -> int:
    """Runs every program, or those named; 0 if each does exactly what is expected of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=Path, help="directory of the programs, built already")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    names = options.names or sorted(EXPECTED)
    failed = 0
    if not options.names and {path.stem for path in HERE.glob("*.c")} != EXPECTED.keys():
        print("the programs of this directory and the table of what is expected differ")
        failed += 1
    with tempfile.TemporaryDirectory(prefix="slabmalloc-misuse-") as temporary:
        directory = options.programs or Path(temporary)
        if options.programs is None:
            build(names, directory)
        for name in names:
            text, code = EXPECTED[name]
            result = subprocess.run([str(directory / name)], capture_output=True, text=True, timeout=60, check=False)
            if (result.stdout, result.stderr, result.returncode) != (text + "\n", "", code):
                print(
                    f"{name}: {result.stdout!r} {result.stderr!r}, exit {result.returncode}; not {text!r}, exit {code}"
                )
                failed += 1
    print(f"{len(names) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
