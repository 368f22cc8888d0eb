# SPDX-License-Identifier: MIT
"""`malloc` and `free` without an interpreter (floor 6): a small C program, compiled where there is a compiler.

The program asks whichever `malloc` is preloaded, and tells whose it was (`c/`). `CC` and `BENCH_CFLAGS` are honoured.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slabmalloc.process import preload

from .children import Failed
from .commands import HARDENED, OURS, STOCK, Command
from .peers import c_library

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .peers import Peer

__all__ = ["SOURCES", "check", "compile_program", "compiler", "compiler_version", "sides_of"]

SOURCES = Path(__file__).resolve().parent / "c"
_FLAGS = ("-std=c11", "-O2", "-D_GNU_SOURCE", "-pthread")


def compiler() -> list[str]:
    """The C compiler's words, whether or not there is one."""
    return shlex.split(os.environ.get("CC", "cc"))


def compiler_version() -> str | None:
    """First line of what it says of itself; None if there is no compiler."""
    words = compiler()
    if not words or not shutil.which(words[0]):
        return None
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else None


def compile_program(folder: Path) -> Path:
    """The program, compiled into `folder`. RuntimeError: why it can't be."""
    if compiler_version() is None:
        raise RuntimeError(f"no C compiler here ({shlex.join(compiler()) or 'CC is empty'}; CC names another)")
    target = folder / "bench_malloc"
    flags = [*_FLAGS, *shlex.split(os.environ.get("BENCH_CFLAGS", ""))]
    words = [*compiler(), *flags, str(SOURCES / "bench_malloc.c"), "-ldl", "-o", str(target)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise RuntimeError(f"the C compiler refused: {last}")
    return target


def sides_of(program: Path, peers: Sequence[Peer]) -> list[Command]:
    """The C library's malloc, ours, also hardened, and the peers'. RuntimeError if there is no preload library."""
    ours = preload.library()
    libraries = {STOCK: "", OURS: ours, HARDENED: ours, **{peer.name: peer.preload for peer in peers}}
    versions = {STOCK: c_library(), **{peer.name: peer.version for peer in peers}}
    options = {HARDENED: {"SLABMALLOC_HARDENED": "1"}}
    trial = ("pair", "64", "slices=1", "slice_ms=1")
    return [
        Command(name, (str(program),), {"LD_PRELOAD": library, **options.get(name, {})}, versions.get(name, ""), trial)
        for name, library in libraries.items()
    ]


def check(side: Command, record: dict[str, Any]) -> None:
    """Raises `Failed` if the record is of another malloc: the dynamic linker only warns of what it can't preload."""
    served, preloaded = record["served_by"], side.variables["LD_PRELOAD"]
    if preloaded and not Path(preloaded).name.startswith(served.split(".so")[0]):
        raise Failed(f"malloc came from {served}, not from {Path(preloaded).name}")
