# SPDX-License-Identifier: MIT
"""CPython's `raw` domain under preload: raw.c, which needs no interpreter, then the same from Python."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from preloaded import LIBRARY, check

from forms import needs_domains

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent

# Each with how many blocks of `raw` it asks for, at least.
CASES = {
    "every_size": 600,
    "errno_is_left_alone": 50_000,
    "blocks_change_sides": 3_000,
    "threads_free_each_others_blocks": 8_000,
    "threads_come_and_go": 36_000,
    "destructors_allocate": 7_200,
    "fork_with_threads_at_work": 8_000,
    "before_and_after": 2,
}
Run = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Runs a case of raw.c as `slabmalloc run --json --summary=FILE` starts a program."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    program = tmp_path_factory.mktemp("raw") / "raw"
    words = [compiler, "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations"]
    # The library looks CPython's functions up in the program: it has to show them.
    done = subprocess.run(
        [*words, "-rdynamic", "-pthread", str(HERE / "raw.c"), "-o", str(program)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

    def run(case: str, summary: Path, domains: str = "raw", **variables: str) -> Run:
        settings = {
            "PATH": os.environ["PATH"],
            "SLABMALLOC_DOMAINS": domains,
            "SLABMALLOC_SUMMARY": str(summary),
            "SLABMALLOC_SUMMARY_JSON": "1",
            **variables,
        }
        return subprocess.run(
            ["sh", "-c", 'SLABMALLOC_RUN_PID=$$ LD_PRELOAD=$0 exec "$@"', LIBRARY, str(program), case],
            env=settings,
            capture_output=True,
            text=True,
            timeout=120,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        )

    return run


def test_every_case_is_run() -> None:
    table = (HERE / "raw.c").read_text().partition("static const test_case cases[] = {\n")[2]
    assert re.findall(r'^ *\{"(\w+)", \w+\},$', table, re.MULTILINE) == [*CASES]


@pytest.mark.parametrize("decay", ["1000", "0"])
@pytest.mark.parametrize("case", CASES)
def test_without_an_interpreter(run: Callable[..., Run], case: str, decay: str, tmp_path: Path) -> None:
    done = run(case, tmp_path / "summary", SLABMALLOC_DECAY_MS=decay)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    record = json.loads((tmp_path / "summary").read_text())
    rows = record["domains"]
    assert list(rows) == ["raw", "malloc"]
    assert rows["raw"]["served_blocks"] >= CASES[case]
    assert rows["raw"]["passed_blocks"] == 0
    assert sum(row["served_blocks"] - row["freed_blocks"] for row in rows.values()) == record["live_objects"]
    held = record["live_bytes"] + record["free_bytes"] + record["tail_bytes"] + record["resting_bytes"]
    assert held == record["mapped_bytes"]


@pytest.mark.parametrize("domains", ["none", "obj", "mem, obj"])
def test_it_is_left_alone_where_it_is_not_named(run: Callable[..., Run], domains: str, tmp_path: Path) -> None:
    done = run("before_and_after", tmp_path / "summary", domains)
    assert done.returncode == 3
    assert "raw.malloc != first_malloc" in done.stderr


# ---- from Python ------------------------------------------------------------------------------------------------

FUNCTIONS = """
library = ctypes.CDLL(None)  # called without the interpreter lock
size, pointer = ctypes.c_size_t, ctypes.c_void_p
def declare(name, *arguments, result=pointer):
    function = getattr(library, name)
    function.argtypes, function.restype = arguments, result
    return function
malloc, realloc = declare("malloc", size), declare("realloc", pointer, size)
free = declare("free", pointer, result=None)
raw_malloc, raw_realloc = declare("PyMem_RawMalloc", size), declare("PyMem_RawRealloc", pointer, size)
raw_calloc, raw_free = declare("PyMem_RawCalloc", size, size), declare("PyMem_RawFree", pointer, result=None)
def rows():
    return slabmalloc.stats().domains
def rise(before, after, field, domain):
    return getattr(after[domain], field) - getattr(before[domain], field)
"""


def test_raw_and_malloc_are_counted_apart() -> None:
    check(
        FUNCTIONS
        + """
before = rows()
blocks = [raw_malloc(3000) for _ in range(1000)]
made = rows()
assert list(made)[-2:] == ["raw", "malloc"]
assert 1000 <= rise(before, made, "served_blocks", "raw") < 1100
assert 3_000_000 <= rise(before, made, "served_bytes", "raw") < 3_100_000
assert rise(before, made, "served_blocks", "malloc") < 100
for block in blocks[::2]: free(block)
for block in blocks[1::2]: raw_free(block)
gone = rows()
assert 500 <= rise(made, gone, "freed_blocks", "malloc") < 600
assert 500 <= rise(made, gone, "freed_blocks", "raw") < 600
"""
    )


def test_a_block_of_either_is_the_others_to_free() -> None:
    check(
        FUNCTIONS
        + """
def work(number):
    for length in (1, 100, 1000, 5000, 30_000, 200_000) * 20:
        for make in (malloc, raw_malloc, lambda length: raw_calloc(1, length)):
            for resize in (realloc, raw_realloc):
                for give in (free, raw_free):
                    block = make(length)
                    ctypes.memset(block, number, length)
                    block = resize(block, 2 * length)
                    assert ctypes.string_at(block, length) == bytes([number]) * length
                    give(block)
in_threads(work)
""",
    )


@needs_domains
@pytest.mark.parametrize("domains", ["raw", "obj", "obj,mem", "raw,mem", "none"])
def test_domains_by_name(domains: str) -> None:
    wanted = [name for name in ("obj", "mem", "raw") if name in domains.split(",")]
    check(
        FUNCTIONS
        + f"""
assert list(rows()) == {[*wanted, "malloc"]}
before = rows()
blocks = [raw_malloc(100) for _ in range(1000)]
assert rise(before, rows(), "served_blocks", "raw" if "raw" in before else "malloc") >= 1000
for block in blocks: raw_free(block)
slabmalloc.install("raw")
assert list(rows()) == {[*[name for name in ("obj", "mem", "raw") if name in (*wanted, "raw")], "malloc"]}
blocks = [raw_malloc(100) for _ in range(1000)]
for block in blocks: raw_free(block)
""",
        under=(f"--domains={domains}",),
    )


@needs_domains
def test_numpys_data_needs_no_handler() -> None:
    pytest.importorskip("numpy")
    check("""
        import numpy as np
        assert slabmalloc.process.refusals() == dict.fromkeys(["obj", "mem", "raw", "numpy"])
        slabmalloc.install()
        slabmalloc.install("numpy")
        finders = len(sys.meta_path)
        before = slabmalloc.stats().domains
        kept = [np.empty(2000) for _ in range(1000)]
        after = slabmalloc.stats().domains
        assert list(after) == ["obj", "mem", "raw", "malloc"]
        rises = [after[name].served_blocks - before[name].served_blocks for name in ("raw", "malloc")]
        assert max(rises) >= 1000
        assert all(_pymem.owns(array.ctypes.data) for array in kept)
        assert not any(type(finder).__name__ == "_Watch" for finder in sys.meta_path)
    """)


@needs_domains
def test_debug_hooks_above_malloc_keep_domains_from_being_installed_late() -> None:
    check(
        """
        kept = [bytearray(5000) for _ in range(10)]
        for name in ("obj", "mem", "raw"):
            try:
                slabmalloc.install(name)
            except RuntimeError as error:
                assert "all of them before malloc" in str(error)
            else:
                raise AssertionError(name)
        """,
        under=("--domains=none",),
        PYTHONMALLOC="debug",
    )
