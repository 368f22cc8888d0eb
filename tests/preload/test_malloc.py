# SPDX-License-Identifier: MIT
"""The preload library as malloc(3): the C programs of this directory, each case in a process of its own.

The programs ask for what any malloc should do. What the library promises beyond the standards is in tests/misuse.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from slabmalloc.process import preload

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent

try:
    LIBRARY = preload.library()
except RuntimeError as reason:
    pytest.skip(str(reason), allow_module_level=True)


def cases(source: str) -> list[str]:
    """The names in the table of the program's cases."""
    table = (HERE / source).read_text().partition("static const test_case cases[] = {\n")[2].partition("};\n")[0]
    names = re.findall(r'^ *\{"(\w+)", (\w+)\},$', table, re.MULTILINE)
    assert names
    assert all(name == function for name, function in names)
    return [name for name, _ in names]


def run(program: str, *arguments: str, limit: int | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the program on the library; `limit`: bytes of address space."""

    def limit_addresses() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    environment = {"PATH": os.environ["PATH"], "LD_PRELOAD": LIBRARY, **variables}
    return subprocess.run(
        [program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        preexec_fn=limit_addresses,
    )


def check(program: str, *arguments: str, **settings: str) -> str:
    done = run(program, *arguments, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("case", [case for case in cases("standards.c") if case != "what_is_told"])
def test_what_the_standards_say(build: Callable[[str], str], case: str) -> None:
    check(build("standards.c"), case)


@pytest.mark.parametrize("case", ["calloc_is_zero", "calloc_is_zero_by_chance", "realloc_by_steps"])
def test_the_same_where_memory_goes_back_at_once(build: Callable[[str], str], case: str) -> None:
    check(build("standards.c"), case, SLABMALLOC_DECAY_MS="0")
    check(build("standards.c"), case, SLABMALLOC_DECAY_MS="1", SLABMALLOC_CACHE_BYTES=str(1 << 30))


def test_what_is_told(build: Callable[[str], str]) -> None:
    done = run(build("standards.c"), "what_is_told")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"slabmalloc: live \d+ bytes in \d+ blocks .*\n", done.stderr)
    document = ET.fromstring(done.stdout)
    heap, large = document.find("heap"), document.find("large")
    assert document.tag == "malloc"
    assert heap is not None
    assert large is not None
    assert large.attrib == {"count": "0", "bytes": "0"}
    sizes = [{name: int(value) for name, value in size.items()} for size in document.iter("size")]
    assert sum(size["bytes"] * size["live"] for size in sizes) == int(heap.attrib["live"]) > 0
    assert int(heap.attrib["mapped"]) >= int(heap.attrib["live"])


@pytest.mark.parametrize("case", [case for case in cases("threads.c") if case != "handlers_at_the_end_allocate"])
def test_threads(build: Callable[[str], str], case: str) -> None:
    assert check(build("threads.c"), case) == "destructor\n"


def test_threads_where_memory_goes_back_at_once(build: Callable[[str], str]) -> None:
    check(build("threads.c"), "free_each_others_blocks", SLABMALLOC_DECAY_MS="0", SLABMALLOC_CACHE_BYTES="0")


def test_handlers_at_the_end_allocate(build: Callable[[str], str]) -> None:
    assert check(build("threads.c"), "handlers_at_the_end_allocate") == "atexit\ndestructor\n"


@pytest.mark.parametrize("case", cases("first.c"))
def test_what_a_program_does_first(build: Callable[[str], str], case: str) -> None:
    check(build("first.c"), case)


def test_cxx(build: Callable[[str], str]) -> None:
    assert check(build("cxx.cc")) == "well\n"


@pytest.mark.parametrize("case", cases("late.c"))
def test_the_library_opened_late(build: Callable[[str], str], case: str) -> None:
    check(build("late.c"), LIBRARY, case, LD_PRELOAD="")


# ---- little address space -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mebibytes", [32, 68, 80, 132, 150, 300, 600])
@pytest.mark.parametrize("block_bytes", [100, 30_000, 500_000])
def test_little_address_space(build: Callable[[str], str], mebibytes: int, block_bytes: int) -> None:
    """Whatever the blocks are, a quarter of what there is can be had (the C library: nine tenths), twice over."""
    done = run(build("little.c"), str(block_bytes), limit=mebibytes << 20)
    assert (done.returncode, done.stderr) == (0, "")
    had = [int(number) >> 20 for number in done.stdout.split()[1:]]
    assert min(had) >= mebibytes // 4


def test_little_address_space_and_errno_at_the_start(build: Callable[[str], str]) -> None:
    done = run(build("little.c"), "100", limit=300 << 20)
    assert done.stdout.split()[0] == "0"


def test_locked_memory_is_what_is_used(build: Callable[[str], str]) -> None:
    reserve = 256 << 20  # as by default it would be 64 GiB
    done = run(build("locked.c"), SLABMALLOC_RESERVE=str(reserve))
    if done.returncode == 77:
        pytest.skip("memory can't be locked here")
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) < reserve // 4
