# SPDX-License-Identifier: MIT
"""What ``slabmalloc bench`` measures (floor 6): sections of tasks, each compared with stock.

The bars that slabmalloc is held to, and what needs an hour or valgrind, are in `benchmarks/`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from .commands import OURS, STOCK
from .tasks import PROGRAMS, Measure, Section, Size, Task, program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["LIBRARY", "LIBRARY_SIDES", "MALLOC", "QUICK_SIZE", "SIZE", "chosen"]

SIZE, QUICK_SIZE = Size(40, quick=False), Size(10, quick=True)
QUICK_PROGRAMS = (
    *("binary_trees", "json_loads", "pickling", "constraints"),
    *("dict_churn", "text_churn", "sql_rows", "closures"),
)
LIBRARY, MALLOC = "library", "malloc"
"""The sections whose sides are not commands of the interpreter."""


def programs(size: Size) -> Section:
    """Small to medium programs that allocate."""
    measures = (
        Measure("work_s", "time", "ms", 1000, mean=True),
        Measure("peak_mib", "peak memory", "MiB", mean=True),
    )
    names = QUICK_PROGRAMS if size.quick else PROGRAMS
    tasks = tuple(Task(name, program(name, size.percent), measures) for name in names)
    about = (
        "Programs that allocate, in the manner of what is usually measured. Time is the program's own processor time; "
        "what starting the interpreter costs is a section of its own. Peak memory is the most that was ever resident."
    )
    return Section("programs", tasks, size.of(5, 3), "Whole Python programs", about, has_hardened=True)


def heap(size: Size) -> Section:
    """One large heap."""
    measures = (
        Measure("build_s", "build", "ms", 1000),
        Measure("visit_s", "visit at random", "ms", 1000),
        Measure("collect_s", "gc.collect()", "ms", 1000),
        Measure("drop_s", "drop", "ms", 1000),
        Measure("peak_mib", "peak memory", "MiB"),
    )
    task = Task(f"{10_000 * size.percent:,} records", program("heap_heavy", size.percent), measures)
    about = "Records of seven objects each: made, visited in random order, walked by the collector, dropped."
    return Section("heap", (task,), size.of(5, 3), "One large heap", about)


def release(size: Size) -> Section:
    """What is kept when most was freed."""
    idle = size.of(2000, 1300)
    measures = (Measure("released_mib", "held", "MiB", mean=True),)

    def task(name: str, *words: str | int) -> Task:
        return Task(name, program(str(words[0]), *map(int, words[1:])), measures, is_watched=True)

    tasks = [
        task("mixed objects, 99 % dropped", "release_mixed", size.percent, 99, idle),
        task("cache shrunk to 5 %", "release_cache", size.percent, idle),
        task("JSON documents, 0.8 % kept", "release_documents", size.percent, idle),
        task("threads, then nothing at all", "release_threads", size.percent, idle, 0),
    ]
    if not size.quick:
        tasks.insert(0, task("mixed objects, 95 % dropped", "release_mixed", size.percent, 95, idle))
        tasks.insert(-1, task("threads at rest, small requests", "release_threads", size.percent, idle))
    about = (
        "A heap is built, most of it is dropped at random, and the program goes on with small requests; the last row "
        "sleeps instead. What the process holds then is its proportional share of physical memory (PSS), interpreter "
        "included."
    )
    return Section("release", tuple(tasks), size.of(3, 1), "Memory after release", about)


def numpy(size: Size) -> Section:
    """Temporaries of NumPy."""
    measures = (Measure("fresh_ms", "time", "ms", mean=True),)
    slices, milliseconds = size.of(7, 3), size.of(60, 20)
    tasks = tuple(
        Task(f"a + b of {mib} MiB", program("numpy_sum", mib, slices, milliseconds), measures, needs="numpy")
        for mib in (1, 8, 64)
    )
    about = "Processor time of one addition whose result is a new array, dropped at once."
    return Section("numpy", tasks, size.of(3, 2), "NumPy temporaries", about)


def startup(size: Size) -> Section:
    """What starting costs, and what threads leave behind."""
    wall = Measure("wall_s", "time on the wall", "ms", 1000)
    threads = (Measure("cpu_s", "time", "ms", 1000), Measure("last_mib", "memory after", "MiB"))
    count = f"{100 * size.percent:,} threads started and ended"
    tasks = (
        Task("python -c pass", ("-c", "pass"), (wall,), rounds=size.of(25, 9)),
        Task(count, program("thread_churn", size.percent), threads),
    )
    about = "An interpreter that does nothing, from start to end; and threads that come and go, four at a time."
    return Section("startup", tasks, size.of(3, 2), "Start-up", about)


def malloc(size: Size) -> Section:
    """`malloc` and `free` by a C program."""
    measures = (Measure("ns", "time", "ns", mean=True),)
    slices = (f"slices={size.of(7, 3)}", f"slice_ms={size.of(8, 3)}")
    works = [("pair", "pair", number) for number in ((64, 4096, 32768) if size.quick else (8, 64, 512, 4096, 32768))]
    orders = ("fifo", "random") if size.quick else ("fifo", "lifo", "random")
    works += [(f"1,000 {order}", order, number) for number in (64, 512) for order in orders]
    if len(os.sched_getaffinity(0)) > 1:
        works += [("freed by another thread", "remote", number) for number in (64, 512)]
    tasks = [Task(f"{name}, {number:,} B", (work, str(number), *slices), measures) for name, work, number in works]
    tasks.append(Task("100,000 live, 1 to 1,024 B", ("live", "0", *slices), measures))
    about = (
        "One allocation and its free, in nanoseconds, by a C program without an interpreter; stock is the C library. "
        "Every free of slabmalloc is checked: the page, the slot, the bit."
    )
    return Section(MALLOC, tuple(tasks), size.of(5, 3), "malloc in C", about, has_hardened=True)


LIBRARY_SIDES: dict[str, dict[str, str]] = {
    "a buffer of 64 B": {
        STOCK: "bytearray(64)",
        OURS: "zone.buffer(64)",
        "numpy.empty": "np.empty(64, 'u1')",
        "ctypes": "ctypes.create_string_buffer(64)",
        "pyarrow": "pyarrow.allocate_buffer(64)",
    },
    "a buffer of 64 KiB": {
        STOCK: "bytearray(65536)",
        OURS: "zone.buffer(65536)",
        "numpy.empty": "np.empty(65536, 'u1')",
        "ctypes": "ctypes.create_string_buffer(65536)",
        "pyarrow": "pyarrow.allocate_buffer(65536)",
    },
    "an address of 64 B": {
        STOCK: "bytearray(64)",
        OURS: "zone.allocate + deallocate, 64",
        "multiprocessing": "multiprocessing.heap malloc + free, 64",
        "shared-allocator": "shared-allocator allocate + free, 64",
    },
    "1,000 of 64 B, each": {
        STOCK: "a list of 1,000 bytearray(64)",
        OURS: "allocate_many + deallocate_many, 1,000 of 64",
    },
    "an array of 8 doubles": {
        STOCK: "np.empty(8, 'f8')",
        OURS: "zone.array(8, 'f8')",
    },
}
"""For each task of the section `library`: who does it by which of the statements."""


def library(size: Size) -> Section:
    """The library beside what Python has."""
    measures = (Measure("ns", "time", "ns", mean=True),)
    slices = (str(size.of(7, 3)), str(size.of(8, 4)))
    tasks = tuple(Task(name, slices, measures) for name in LIBRARY_SIDES)
    about = (
        "An object made and dropped by a statement of Python, in nanoseconds. Stock is bytearray of the same size; for "
        "the array it is numpy.empty."
    )
    return Section(LIBRARY, tasks, size.of(5, 3), "The library", about)


SECTIONS: dict[str, Callable[[Size], Section]] = {
    "programs": programs,
    "heap": heap,
    "release": release,
    "numpy": numpy,
    "startup": startup,
    MALLOC: malloc,
    LIBRARY: library,
}
"""By the names that ``--only`` knows, in the order of the report."""


def chosen(size: Size, only: Sequence[str]) -> list[Section]:
    """The sections, each with the tasks that a word of `only` names: the section's, or part of a task's name.

    ValueError, with all names, if a word names nothing.
    """
    everything = [make(size) for make in SECTIONS.values()]
    for word in only:
        if word not in SECTIONS and not any(word in task.name for section in everything for task in section.tasks):
            known = [f"  {section.name}: {', '.join(t.name for t in section.tasks)}" for section in everything]
            raise ValueError("\n".join([f"--only {word}: no such section or row; there are", *known]))
    sections = []
    for section in everything:
        is_named = not only or section.name in only
        tasks = tuple(task for task in section.tasks if is_named or any(word in task.name for word in only))
        if tasks:
            sections.append(replace(section, tasks=tasks))
    return sections
