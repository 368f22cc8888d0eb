# SPDX-License-Identifier: MIT
"""The C programs, compiled: our core into a static archive, without link-time optimisation, and each side against it.

So a peer's call goes through the dynamic linker's table and ours is a plain call into another object file; neither is
inlined. `CC` and `BENCH_CFLAGS` are honoured. What was built stands in a folder of its own and is built anew each time:
it takes a few seconds.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_CORE, _SOURCES = ROOT / "core", ROOT / "benchmarks" / "c"
_CORE_FLOORS = ("base", "slab", "zone")
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Wundef", "-Wconversion", "-pthread")
_OUR_PROGRAMS = {
    "bench_zone": ("bench_zone.c", ()),
    "bench_zone_owned": ("bench_zone.c", ("-DBENCH_OWNED",)),
    "bench_sc": ("bench_sc.c", ()),
    "bench_sc_owned": ("bench_sc.c", ("-DBENCH_OWNED",)),
}


def compiler() -> list[str]:
    """The compiler and the flags that all programs share."""
    return [*shlex.split(os.environ.get("CC", "cc")), *_FLAGS, *shlex.split(os.environ.get("BENCH_CFLAGS", ""))]


def compiler_version() -> str:
    """First line of what the compiler says of itself."""
    words = [*shlex.split(os.environ.get("CC", "cc")), "--version"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def build(folder: Path, peers_only: bool = False) -> None:
    """Compile every program into `folder`, which exists. SystemExit with the compiler's words if it refuses."""
    _compile([str(_SOURCES / "bench_malloc.c"), "-ldl", "-o", str(folder / "bench_malloc")])
    if peers_only:
        return
    sources = sorted(source for floor in _CORE_FLOORS for source in (_CORE / floor).glob("*.c"))
    includes = [f"-I{_CORE}", f"-I{_CORE / 'include'}"]
    objects = [str(folder / f"{source.parent.name}_{source.stem}.o") for source in sources]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            ["-c", str(s), "-fPIC", "-fvisibility=hidden", *includes, "-o", o]
            for s, o in zip(sources, objects, strict=True)
        ]
        list(pool.map(_compile, jobs))
        archive = str(folder / "libslabmalloc.a")
        subprocess.run(["ar", "rcs", archive, *objects], check=True)
        jobs = [
            [*flags, str(_SOURCES / source), *includes, archive, "-o", str(folder / name)]
            for name, (source, flags) in _OUR_PROGRAMS.items()
        ]
        list(pool.map(_compile, jobs))


def _compile(words: list[str]) -> None:
    done = subprocess.run([*compiler(), *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(done.args)}\n{done.stderr}")
