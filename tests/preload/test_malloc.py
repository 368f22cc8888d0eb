# SPDX-License-Identifier: MIT
"""The preload library as malloc(3): the C programs of this directory, each case in a process of its own.

The programs ask for what any malloc should do. What the library promises beyond the standards is compared here: a
misuse ends the process with one line.
"""

from __future__ import annotations

import os
import re
import resource
import signal
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


# ---- misuse ---------------------------------------------------------------------------------------------------

ADDRESS = r"0x[0-9a-f]+ \(malloc\): "
FREE_SLOT = r"slot \d+ of a {}-byte slab is already free"
LIVE_SLOT = r"{} bytes into slot \d+ of a {}-byte slab, which is live"
TWICE = f"double free of {ADDRESS}{FREE_SLOT.format(3072)}"
FOREIGN = f"invalid free of {ADDRESS}not an address of the heap"
REALLOC = f"invalid realloc of {ADDRESS}"
USABLE = f"invalid malloc_usable_size of {ADDRESS}"

MISUSES = {
    "free_twice_small": TWICE,
    "free_twice_medium": f"double free of {ADDRESS}{FREE_SLOT.format(20480)}",
    "free_twice_large": FOREIGN,
    "free_twice_with_others_between": TWICE,
    "free_after_another_thread": TWICE,
    "free_by_another_thread": TWICE,
    "free_by_two_other_threads": TWICE,
    "free_twice_of_a_thread_that_ended": TWICE,
    "free_in_child_twice": TWICE,
    "free_inside_small": f"invalid free of {ADDRESS}{LIVE_SLOT.format(16, 3072)}",
    "free_inside_small_odd": f"invalid free of {ADDRESS}{LIVE_SLOT.format(1, 3072)}",
    "free_inside_medium": f"invalid free of {ADDRESS}{LIVE_SLOT.format(4096, 20480)}",
    "free_inside_large": FOREIGN,
    "free_inside_large_page": FOREIGN,
    "free_inside_by_another_thread": f"invalid free of {ADDRESS}{LIVE_SLOT.format(16, 3072)}",
    "free_stack": FOREIGN,
    "free_static": FOREIGN,
    "free_text": FOREIGN,
    "free_small_number": "invalid free of 0x10 \\(malloc\\): not an address of the heap",
    "free_large_number": "invalid free of 0xf{15}0 \\(malloc\\): not an address of the heap",
    "free_mapping": FOREIGN,
    "free_far_in_range": f"invalid free of {ADDRESS}in the heap's range, but on no slab",
    "free_after_realloc": TWICE,
    "free_after_realloc_to_zero": TWICE,
    "free_before_the_first_malloc": FOREIGN,
    "realloc_freed": f"{REALLOC}{FREE_SLOT.format(3072)}",
    "realloc_freed_to_less": f"{REALLOC}{FREE_SLOT.format(3072)}",
    "realloc_freed_to_zero": f"(invalid realloc|double free) of {ADDRESS}{FREE_SLOT.format(3072)}",
    "realloc_freed_by_another_thread": f"{REALLOC}{FREE_SLOT.format(3072)}",
    "realloc_freed_large": f"{REALLOC}not an address of the heap",
    "realloc_inside": f"{REALLOC}{LIVE_SLOT.format(16, 3072)}",
    "realloc_static": f"{REALLOC}not an address of the heap",
    "reallocarray_freed": f"{REALLOC}{FREE_SLOT.format(3072)}",
    "usable_size_freed": f"{USABLE}{FREE_SLOT.format(3072)}",
    "usable_size_inside": f"{USABLE}{LIVE_SLOT.format(16, 3072)}",
    "usable_size_static": f"{USABLE}not an address of the heap",
}


def test_every_misuse_has_its_words() -> None:
    assert MISUSES.keys() == set(cases("misuse.c"))


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_ends_the_process_with_one_line(build: Callable[[str], str], misuse: str) -> None:
    done = run(build("misuse.c"), misuse)
    assert re.fullmatch(f"slabmalloc: {MISUSES[misuse]}\n", done.stderr), done.stderr
    assert done.returncode == -signal.SIGABRT
    assert done.stdout == ""
