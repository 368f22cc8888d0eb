# SPDX-License-Identifier: MIT
"""The C programs, compiled: our core into a static archive as the wheel builds it (-O3, no link-time optimisation),
each side against it; and the preload library.

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

from harness.sides import PRELOAD_LIBRARY
from slabmalloc.bench import malloc_in_c

ROOT = Path(__file__).resolve().parent.parent.parent
_CORE, _BINDINGS, _SOURCES = ROOT / "core", ROOT / "bindings", ROOT / "benchmarks" / "c"
_COMMON_FLAGS = ("-std=c11", "-Wall", "-Wextra", "-Wundef", "-Wconversion", "-pthread")
_CORE_FLAGS = ("-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden")
_PROGRAM_FLAGS = ("-O2", "-D_GNU_SOURCE")
_OF_THE_EXTENSION = ("dlpack.c", "in_process.c", "npymem.c")
_PRELOAD_FLAGS = (
    *(f"-fno-builtin-{name}" for name in ("malloc", "calloc", "realloc", "free")),
    *("-ftls-model=initial-exec", "-shared", "-Wl,-Bsymbolic-functions", "-Wl,-z,nodelete"),
)
_OUR_PROGRAMS = {
    "bench_zone": ("bench_zone.c", ()),
    "bench_zone_owned": ("bench_zone.c", ("-DBENCH_OWNED",)),
    "bench_sc": ("bench_sc.c", ()),
    "bench_sc_owned": ("bench_sc.c", ("-DBENCH_OWNED",)),
}


def build(folder: Path, *, peers_only: bool = False) -> None:
    """Compile every program into `folder`, which exists. SystemExit with the compiler's words if it refuses."""
    try:
        malloc_in_c.compile_program(folder)
    except RuntimeError as error:
        raise SystemExit(str(error)) from None
    if peers_only:
        return
    sources = sorted(_CORE.glob("*/*.c"))
    includes = [f"-I{_CORE}", f"-I{_CORE / 'include'}", f"-I{malloc_in_c.SOURCES}"]
    objects = [str(folder / f"{source.parent.name}_{source.stem}.o") for source in sources]
    archive = str(folder / "libslabmalloc.a")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pairs = zip(sources, objects, strict=True)
        list(pool.map(_compile, [[*_CORE_FLAGS, *includes, "-c", str(source), "-o", obj] for source, obj in pairs]))
        subprocess.run(["ar", "rcs", archive, *objects], check=True)
        programs = [
            [*_PROGRAM_FLAGS, *flags, *includes, str(_SOURCES / source), archive, "-o", str(folder / name)]
            for name, (source, flags) in _OUR_PROGRAMS.items()
        ]
        shared = [source for source in _BINDINGS.glob("*.c") if source.name not in _OF_THE_EXTENSION]
        bindings = [str(source) for source in (*shared, *_BINDINGS.glob("preload/*.c"))]
        includes += [f"-I{_BINDINGS}", f"-I{_BINDINGS / 'preload'}"]
        library = [*bindings, *objects, "-ldl", "-o", str(folder / PRELOAD_LIBRARY)]
        programs.append([*_CORE_FLAGS, *_PRELOAD_FLAGS, *includes, *library])
        list(pool.map(_compile, programs))


def _compile(words: list[str]) -> None:
    flags = [*_COMMON_FLAGS, *shlex.split(os.environ.get("BENCH_CFLAGS", ""))]
    done = subprocess.run([*malloc_in_c.compiler(), *flags, *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(done.args)}\n{done.stderr}")
