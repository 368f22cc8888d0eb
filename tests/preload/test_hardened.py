# SPDX-License-Identifier: MIT
"""A hardened process: what the C programs of this directory ask of any malloc, Python programs, and what is found.

`hardened.c` has a case for each thing that is found; the line is compared here.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import test_malloc

from forms import IS_FREE_THREADED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return test_malloc.run(program, *arguments, SLABMALLOC_HARDENED="1")


# ---- what any malloc does -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in test_malloc.cases("standards.c") if case != "what_is_told"])
def test_what_the_standards_say(build: Callable[[str], str], case: str) -> None:
    done = run(build("standards.c"), case)
    assert (done.returncode, done.stderr) == (0, "")


# The second is about many heaps, whatever is in them, and takes its time.
NOT_HERE = ["handlers_at_the_end_allocate", "ten_thousand_come_and_go"]


@pytest.mark.parametrize("case", [case for case in test_malloc.cases("threads.c") if case not in NOT_HERE])
def test_threads(build: Callable[[str], str], case: str) -> None:
    done = run(build("threads.c"), case)
    assert (done.returncode, done.stdout, done.stderr) == (0, "destructor\n", "")


def test_cxx(build: Callable[[str], str]) -> None:
    done = run(build("cxx.cc"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", "")


# ---- what is found --------------------------------------------------------------------------------------------

AT = r"0x[0-9a-f]+ \(malloc\): "
SLOT = r", in slot \d+ of a {}-byte slab"
OVERFLOW = f"buffer overflow found at free of {AT}"
OVERFLOW_AT_REALLOC = f"buffer overflow found at realloc of {AT}"
BY_ONE = f"byte 1 behind its 3000 was written{SLOT.format(3072)}"
BELOW = rf"{OVERFLOW}what lies before it was written, below slot \d+ of a 112-byte slab"
UNDERFLOWN = r".*slot \d+ of a 32-byte slab(?: was written)?"
WRITE = r"write after free of 0x[0-9a-f]+ \(heap\): "

FOUND = {
    "overflow_by_one": OVERFLOW + BY_ONE,
    "overflow_by_a_few": f"{OVERFLOW}byte 5 behind its 3000 was written{SLOT.format(3072)}",
    "overflow_by_the_end_of_a_string": f"{OVERFLOW}what lies behind its at most 24 bytes was written{SLOT.format(32)}",
    "overflow_across": f"{OVERFLOW}what lies behind its at most 3064 bytes was written{SLOT.format(3072)}",
    "overflow_before_realloc": OVERFLOW_AT_REALLOC + BY_ONE,
    "overflow_before_realloc_in_place": OVERFLOW_AT_REALLOC + BY_ONE,
    "overflow_of_calloc": OVERFLOW + BY_ONE,
    "overflow_of_a_large_block": f"{OVERFLOW}byte 1 behind its 1000000 was written, in a large block of 1003520 bytes",
    "underflow_of_the_next_block": f"(?:{OVERFLOW}what lies b|{WRITE}byte 24 ){UNDERFLOWN}",
    "overflow_found_by_another_thread": OVERFLOW + BY_ONE,
    "write_after_free": f"{WRITE}byte 5 of slot \\d+ of a 112-byte slab was written",
    "write_after_free_behind_its_bytes": f"(?:{WRITE}byte 104 of slot \\d+ of a 112-byte slab was written|{BELOW})",
    "underflow": BELOW,
    "free_twice_later": f"double free of {AT}slot \\d+ of a 3072-byte slab is already free",
    "free_large_twice": f"double free of {AT}a large block of 1003520 bytes is already free, and back at the system",
    "free_nothing_twice": f"double free of {AT}slot \\d+ of a .*-byte slab is already free",
}
GUARDED = ["read_large_after_free", "write_behind_a_large_block", "read_nothing"]


def test_every_case_is_compared() -> None:
    assert {*FOUND, *GUARDED} == set(test_malloc.cases("hardened.c"))


@pytest.mark.parametrize("case", FOUND)
def test_what_is_found_ends_the_process_with_one_line(build: Callable[[str], str], case: str) -> None:
    done = run(build("hardened.c"), case)
    assert re.fullmatch(f"slabmalloc: {FOUND[case]}(?:; the slab is .*)?; to see more .*\n", done.stderr), done.stderr
    assert (done.returncode, done.stdout) == (-signal.SIGABRT, "")


@pytest.mark.parametrize("case", GUARDED)
def test_what_nobody_can_touch(build: Callable[[str], str], case: str) -> None:
    assert run(build("hardened.c"), case).returncode == -signal.SIGSEGV


# ---- Python ---------------------------------------------------------------------------------------------------

SLABMALLOC = [sys.executable, "-m", "slabmalloc"]
FORMS = {"preload": ["run", "--hardened"], "in process": ["run", "--hardened", "--in-process"]}
if IS_FREE_THREADED:
    FORMS = {"preload": [*FORMS["preload"], "--domains=raw"]}  # it could not have the others

PROGRAM = """
import gc, multiprocessing, os, random, re, sys, threading
import slabmalloc
from slabmalloc.process import _pymem
try:
    import numpy
except ModuleNotFoundError:
    numpy = None

def sound(method="none"):
    gc.collect()
    assert _pymem.audit() is None, _pymem.audit()
    stats = slabmalloc.stats()
    served = os.environ.get("LD_PRELOAD") or method != "spawn"  # in process, spawned children are not served
    assert stats.hardened is bool(served) and stats.conserved, stats

def work(seed):
    source, table, text = random.Random(seed), {}, ""
    for i in range(3000):
        table[source.randrange(1000)] = bytearray(source.randrange(3000))
        text = (text + str(i))[-5000:]
    assert re.sub("[0-9]+", "", text) == ""
    for block in table.values():
        block.extend(b"x" * source.randrange(1000))
    if numpy is not None:
        small = [numpy.zeros(source.randrange(200)) for _ in range(500)]
        large = numpy.ones((300, 300)) @ numpy.ones((300, 300))
        assert all(not array.any() for array in small) and large.sum() == 300**3
        large.resize((400, 400), refcheck=False)
    return sum(map(len, table.values()))

def in_child(seed, method, queue):
    queue.put(work(seed))
    sound(method)

if __name__ == "__main__":
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    expected = work(5)
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        queue = context.SimpleQueue()
        child = context.Process(target=in_child, args=(5, method, queue))
        child.start()
        assert queue.get() == expected
        child.join()
        assert child.exitcode == 0, child.exitcode
    sound()
    print("well")
"""


@pytest.mark.parametrize("form", FORMS)
def test_python_programs(tmp_path: Path, form: str) -> None:
    pytest.importorskip("slabmalloc.process._pymem", reason="needs the native extension")
    program, summary = tmp_path / "program.py", tmp_path / "summary.json"
    program.write_text(PROGRAM)
    command = [*SLABMALLOC, *FORMS[form], "--json", f"--summary={summary}", str(program)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}  # of forks while there are threads
    if form == "in process":
        environment["PYTHONPATH"] = str(tmp_path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr
    assert json.loads(summary.read_text())["hardened"] is True


@pytest.mark.parametrize("option", [[], ["--hardened"]])
def test_doctor_says_so(option: list[str]) -> None:
    pytest.importorskip("slabmalloc.process._pymem", reason="needs the native extension")
    command = [*SLABMALLOC, "run", "--quiet", *option, *FORMS["preload"][2:], "-m", "slabmalloc", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["slabmalloc"]["hardened"] is bool(option)


def test_debug_hooks_above(tmp_path: Path) -> None:
    """Their bytes around each block are part of what they ask for."""
    if IS_FREE_THREADED:
        pytest.skip("its domains can't be served")
    program = tmp_path / "program.py"
    program.write_text(
        "import json, re\nfor i in range(2000): json.loads(json.dumps({str(i): [i] * 50}))\nprint('well')"
    )
    command = [*SLABMALLOC, "run", "--hardened", "--quiet", str(program)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONMALLOC": "debug"}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (0, "well\n", 1)
    assert done.stderr.startswith("slabmalloc: obj and mem are not served: PYTHONMALLOC=debug has Python use")


def test_installed_by_the_program_itself() -> None:
    if IS_FREE_THREADED:
        pytest.skip("its domains can't be served")
    program = "import slabmalloc, sys; slabmalloc.install(); assert slabmalloc.stats().hardened is (len(sys.argv) > 1)"
    for words, value in (["x"], "1"), ([], "0"):
        environment = {**os.environ, "SLABMALLOC_HARDENED": value}
        subprocess.run([sys.executable, "-c", program, *words], env=environment, check=True, timeout=60)


@pytest.mark.parametrize("domain", ["obj", "mem", "raw"])
def test_misuse_of_cpythons_domains(domain: str) -> None:
    pytest.importorskip("slabmalloc.process._pymem", reason="needs the native extension")
    if IS_FREE_THREADED and domain != "raw":
        pytest.skip("its domains can't be served")
    name = {"obj": "PyObject_", "mem": "PyMem_", "raw": "PyMem_Raw"}[domain]
    program = f"""
        import ctypes, resource, sys
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        allocate, free, resize = (getattr(ctypes.pythonapi, "{name}" + word) for word in ("Malloc", "Free", "Realloc"))
        allocate.restype = resize.restype = ctypes.c_void_p
        free.restype, free.argtypes, resize.argtypes = None, [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_size_t]
        block = allocate(ctypes.c_size_t(100))
        ctypes.memset(block + 100, 0, 8)
        free(block) if sys.argv[1] == "free" else resize(block, 200)
    """
    for what in ("free", "realloc"):
        command = [*SLABMALLOC, *FORMS["preload"], "--quiet", "-c", textwrap.dedent(program), what]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        line = rf"slabmalloc: buffer overflow found at {what} of 0x[0-9a-f]+ \({domain}\): {{}} was written.*\n"
        assert re.fullmatch(line.format("what lies behind its at most 104 bytes"), done.stderr), done.stderr
        assert done.returncode == -signal.SIGABRT
