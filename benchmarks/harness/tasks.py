# SPDX-License-Identifier: MIT
"""What is measured when whole programs run, and the bars: upper limits on a measure's ratio to stock, on its difference
to stock, or on itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slabmalloc.bench.commands import GLIBC, STOCK
from slabmalloc.bench.tasks import ABOVE, ALONE, LAUNCH, PROGRAMS, TIMES, Measure, Section, Size, Task, program

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Counted(Section):
    """Not timed: callgrind counts, between two scales of the programs."""

    scales: tuple[int, int] = (1, 2)


def programs(size: Size) -> Section:
    """Small to medium programs that allocate."""
    measures = (
        Measure("cpu_s", "time", limit=1.03, mean=True, mean_limit=0.97),
        Measure("work_s", "time without start and end", mean=True),
        Measure("peak_mib", "peak memory", "MiB", mean=True, mean_limit=1.0),
    )
    tasks = [Task(name, program(name, size.percent, times=size.of(TIMES[name], 1)), measures) for name in PROGRAMS]
    return Section("programs", tuple(tasks), size.of(5, 3))


def instructions(size: Size) -> Section:
    """The same programs, small, counted instead of timed."""
    measures = (Measure("instructions_m", "instructions", "M", limit=1.03, mean=True, mean_limit=0.96),)
    scales = (size.of(2, 1), size.of(6, 2))
    tasks = [Task(name, (LAUNCH, name), measures) for name in PROGRAMS]
    return Counted("instructions", tuple(tasks), 1, scales=scales)


def heap_heavy(size: Size) -> Section:
    """One large heap."""
    measures = (
        Measure("build_s", "build"),
        Measure("visit_s", "visit at random"),
        Measure("collect_s", "gc.collect()", limit=0.75),
        Measure("drop_s", "drop", limit=0.75),
        Measure("peak_mib", "peak memory", "MiB"),
    )
    task = Task(f"{10_000 * size.percent:,} records", program("heap_heavy", size.percent), measures)
    return Section("heap-heavy", (task,), size.of(5, 3))


def release(size: Size) -> Section:
    """What is kept when most was freed."""
    idle = size.of(2000, 500)

    def task(name: str, words: tuple[str, ...], limit: float | None, against: tuple[str, ...] = (STOCK,)) -> Task:
        released = Measure("released_mib", "PSS", "MiB", limit=limit, against=against)
        return Task(name, words, (released,))

    tasks = (
        task("(a) mixed objects, 95 % dropped", program("release_mixed", size.percent, 95, idle), None),
        task("(a) mixed objects, 99 % dropped", program("release_mixed", size.percent, 99, idle), 0.50),
        task("(b) cache shrunk to 5 %", program("release_cache", size.percent, idle), 0.40),
        task("(c) documents, 0.8 % kept", program("release_documents", size.percent, idle), 0.60),
        task("(e) eight threads at rest", program("release_threads", size.percent, idle), 0.50, (GLIBC, STOCK)),
        task("(e) and nothing at all", program("release_threads", size.percent, idle, 0), None, (GLIBC, STOCK)),
    )
    return Section("release", tasks, size.of(3, 1))


def numpy(size: Size) -> Section:
    """Temporaries of NumPy."""
    of = Measure("ratio", "", "", kind=ALONE, limit=1.10, of="np.add(a, b, out=c)")
    slices, milliseconds = size.of(9, 3), size.of(100, 30)
    tasks = [
        Task(f"a + b, {mib} MiB", program("numpy_sum", mib, slices, milliseconds), (of,), needs="numpy")
        for mib in (1, 8, 64, 256)
    ]
    return Section("numpy", tuple(tasks), size.of(3, 1))


def startup(size: Size) -> Section:
    """What starting costs, and what threads leave behind."""
    wall = Measure("wall_s", "wall time, ms above stock", "ms", 1000, ABOVE, 30.0)
    threads = (
        Measure("growth_mib", "growth of PSS", "MiB", kind=ALONE, of="since the first tenth"),
        Measure("cpu_s", "time"),
    )
    count = f"{100 * size.percent:,} threads"
    tasks = (
        Task("-c pass", ("-c", "pass"), (wall,), rounds=size.of(25, 7)),
        Task(count, program("thread_churn", size.percent), threads),
    )
    return Section("startup", tasks, size.of(3, 1))


def pause(size: Size) -> Section:
    """How long single calls take while memory goes back: patterns in the order of `programs/pauses.py`."""
    measures = (
        Measure("longest_ms", "longest call", "ms", kind=ALONE, limit=2.0, of="ms of its thread's time"),
        Measure("longest_small_ms", "longest up to 2 KiB", "ms", kind=ALONE, of="ms of its thread's time"),
        Measure("p999_us", "99.9 % below", "µs", kind=ALONE, of="µs of its thread's time"),
        Measure("p50_ns", "median", "ns", kind=ALONE, of="ns"),
    )
    names = (
        "CPython's objects, at random",
        "mixed, at random",
        "mixed, by address",
        "mixed, another thread frees",
        "mixed, of a thread that ended",
        "128 KiB to 4 MiB",
        "1 to 64 MiB, advised as by NumPy",
        "1 to 64 MiB",
    )
    numbers = 3 * size.percent, size.of(2000, 1500)
    tasks = [Task(name, program("pauses", pattern, *numbers), measures) for pattern, name in enumerate(names)]
    return Section("pause", tuple(tasks), size.of(3, 1))


def fork(size: Size) -> Section:
    """What a forked child copies of its parent's frozen heap."""
    idle = size.of(2000, 500)

    def task(name: str, dropped_per_mille: int, limit: float | None) -> Task:
        measures = (
            Measure("worked_mib", "10,000 objects made, MiB above stock", "MiB", kind=ABOVE, limit=limit),
            Measure("served_mib", "made anew 20 times, MiB above stock", "MiB", kind=ABOVE),
            Measure("idle_mib", "dropped, and a while after, MiB above stock", "MiB", kind=ABOVE),
        )
        return Task(name, program("fork_freeze", size.percent, dropped_per_mille, idle), measures)

    tasks = (
        task("child of 100 MiB", 0, 0.25),
        task("child of 100 MiB less 5 % at random", 50, None),
        task("child of 100 MiB less half at random", 500, None),
    )
    return Section("fork", tasks, size.of(3, 1))


SECTIONS: dict[str, Callable[[Size], Section]] = {
    "programs": programs,
    "instructions": instructions,
    "heap-heavy": heap_heavy,
    "release": release,
    "numpy": numpy,
    "startup": startup,
    "pause": pause,
    "fork": fork,
}
"""By the names that `--only` knows, in the order of the run."""
