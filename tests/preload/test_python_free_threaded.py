# SPDX-License-Identifier: MIT
"""Free-threaded interpreters under preload: `obj` and `mem` stay with them, one line says so, all else is served.

For every such interpreter of this machine: the one that runs the tests, those on PATH and in pyenv. They need no
extension of ours: the library is the same for every release.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from preloaded import LIBRARY, PRELUDE

from forms import IS_FREE_THREADED

REFUSAL = "a free-threaded interpreter keeps its own heaps for the domains obj and mem: its collector walks them"
LINE = f"slabmalloc: obj and mem are not served: {REFUSAL}\n"

RELEASES = ("3.13t", "3.14t", "3.15t")


def free_threaded_pythons() -> list[str]:
    found = [sys.executable] if IS_FREE_THREADED else []
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for release in RELEASES:
        paths = [str(path) for path in sorted(versions.glob(f"*/bin/python{release}"))[-1:]]
        on_path = shutil.which(f"python{release}")
        found += paths or ([on_path] if on_path else [])
    return found


@pytest.fixture(params=free_threaded_pythons() or [None])
def python(request: pytest.FixtureRequest) -> str:
    if request.param is None:
        pytest.skip(f"no free-threaded Python here: none of {', '.join(RELEASES)}")
    # A shim of pyenv may stand on PATH for a version that is not active.
    if subprocess.run([request.param, "-c", ""], capture_output=True).returncode != 0:
        pytest.skip(f"{request.param} does not run")
    return str(request.param)


def run(python: str, program: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """As `slabmalloc run --json --summary` starts it, whose extension the interpreter may not have."""
    start = 'SLABMALLOC_RUN_PID=$$ LD_PRELOAD=$0 exec "$@"'
    variables = {"PATH": os.environ["PATH"], "SLABMALLOC_SUMMARY": str(folder / "summary"), **variables}
    return subprocess.run(
        ["sh", "-c", start, LIBRARY, python, "-c", textwrap.dedent(program)],
        env={**variables, "SLABMALLOC_SUMMARY_JSON": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    )


def check(python: str, program: str, folder: Path) -> dict[str, Any]:
    """The program prints "well" at its end, everything is conserved, and nobody else writes; returns the summary."""
    done = run(python, program, folder, SLABMALLOC_DOMAINS="raw")
    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", "")
    record: dict[str, Any] = json.loads((folder / "summary").read_text())
    assert list(record["domains"]) == ["raw", "malloc"]
    rows = record["domains"].values()
    assert sum(row["served_blocks"] - row["freed_blocks"] for row in rows) == record["live_objects"]
    return record


# What a program may do at once in several threads: objects that change hands, and `malloc` of a C extension's.
WORK = """
import ctypes, gc, os, queue, random, sys, threading
c = ctypes.CDLL(None)
c.malloc.restype = c.realloc.restype = ctypes.c_void_p
c.malloc.argtypes, c.realloc.argtypes = [ctypes.c_size_t], [ctypes.c_void_p, ctypes.c_size_t]
c.free.argtypes, c.free.restype = [ctypes.c_void_p], None
raw = ctypes.pythonapi.PyMem_RawMalloc, ctypes.pythonapi.PyMem_RawFree
raw[0].restype, raw[0].argtypes = ctypes.c_void_p, [ctypes.c_size_t]
raw[1].restype, raw[1].argtypes = None, [ctypes.c_void_p]

def churn(number, rounds, elsewhere):
    chance, held = random.Random(number), []
    for step in range(rounds):
        size = chance.choice((1, 30, 500, 5000, 9000, 100_000, 200_000))
        block = c.malloc(size)
        ctypes.memset(block, number, size)
        if step % 5 == 0:
            block = c.realloc(block, size := 2 * size)
            ctypes.memset(block, number, size)
        c_raw = raw[0](size)
        held.append((block, size, c_raw, [bytearray(step % 3000), {step: str(step)}, [number] * 50]))
        if len(held) > 40:
            elsewhere.put((number, *held.pop(chance.randrange(len(held)))))
        try:
            free(*elsewhere.get_nowait())
        except queue.Empty:
            pass
    for one in held:
        elsewhere.put((number, *one))

def free(number, block, size, c_raw, objects):
    assert ctypes.string_at(block, size) == bytes([number]) * size
    assert objects[2] == [number] * 50
    c.free(block)
    raw[1](c_raw)

def work(threads=4, rounds=3000):
    elsewhere, failed = queue.SimpleQueue(), []
    def guarded(number):
        try:
            churn(number, rounds, elsewhere)
        except BaseException as error:
            failed.append(error)
            raise
    workers = [threading.Thread(target=guarded, args=[number]) for number in range(1, threads + 1)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    while not elsewhere.empty():
        free(*elsewhere.get())
    gc.collect()
    assert not failed and not sys._is_gil_enabled()
"""


def test_obj_and_mem_are_refused_in_one_line(python: str, tmp_path: Path) -> None:
    program = "import sys; print(sys._is_gil_enabled())"
    for domains in ("obj,mem", "obj", "mem"):
        done = run(python, program, tmp_path, SLABMALLOC_DOMAINS=domains)
        assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", LINE)
        assert list(json.loads((tmp_path / "summary").read_text())["domains"]) == ["malloc"]
    done = run(python, program, tmp_path, SLABMALLOC_DOMAINS="none")
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
    # An interpreter that has its lock turned on has no other heaps for that.
    done = run(python, program, tmp_path, PYTHON_GIL="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", LINE)
    assert list(json.loads((tmp_path / "summary").read_text())["domains"]) == ["raw", "malloc"]


def test_malloc_and_raw_are_served(python: str, tmp_path: Path) -> None:
    program = WORK + "kept = [(c.malloc(100), raw[0](1000)) for _ in range(5000)]\nprint('well')"
    rows = check(python, program, tmp_path)["domains"]
    assert all(row["served_blocks"] >= 5000 for row in rows.values())
    assert rows["malloc"]["served_bytes"] >= 5000 * 100
    assert rows["raw"]["served_bytes"] >= 5000 * 1000


def test_threads_at_once(python: str, tmp_path: Path) -> None:
    record = check(python, WORK + "work()\nprint('well')", tmp_path)
    assert record["remote_frees"] > 1000
    assert all(row["served_blocks"] > 4 * 3000 for row in record["domains"].values())


def test_threads_come_and_go(python: str, tmp_path: Path) -> None:
    check(python, WORK + "for _ in range(20): work(threads=6, rounds=100)\nprint('well')", tmp_path)


def test_forks_with_threads_at_work(python: str, tmp_path: Path) -> None:
    check(
        python,
        WORK
        + textwrap.dedent("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads
        worker = threading.Thread(target=work)
        worker.start()
        for _ in range(20):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    work(threads=2, rounds=50)
                    code = 0
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
        worker.join()
        print("well")
        """),
        tmp_path,
    )


def test_the_end_while_threads_are_at_work(python: str, tmp_path: Path) -> None:
    program = """
    def endlessly():
        elsewhere = queue.SimpleQueue()
        while True:
            churn(7, 1000, elsewhere)
    for _ in range(3): threading.Thread(target=endlessly, daemon=True).start()
    work(threads=2, rounds=500)
    print("well")
    """
    # Not conserved to the block: they go on while the summary is made.
    done = run(python, WORK + textwrap.dedent(program), tmp_path, SLABMALLOC_DOMAINS="raw")
    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", "")
    rows = json.loads((tmp_path / "summary").read_text())["domains"]
    assert rows["malloc"]["served_blocks"] > 0 < rows["raw"]["served_blocks"]


def test_an_invalid_free_ends_it_with_one_line(python: str, tmp_path: Path) -> None:
    program = (
        WORK + "work(rounds=100)\nblock = raw[0](3000)\nprint(hex(block), flush=True)\nraw[1](block)\nc.free(block)"
    )
    done = run(python, program, tmp_path, SLABMALLOC_DOMAINS="none")
    assert done.returncode == -signal.SIGABRT
    assert done.stderr.startswith(f"slabmalloc: double free of {done.stdout.strip()} (malloc): slot ")
    assert done.stderr.count("\n") == 1


# ---- with our extensions ----------------------------------------------------------------------------------------

needs_free_threaded = pytest.mark.skipif(not IS_FREE_THREADED, reason="this interpreter has its lock always")


def own(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words, "-c", textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@needs_free_threaded
def test_a_run_leaves_the_lock_off() -> None:
    done = own(
        PRELUDE
        + textwrap.dedent("""
        from slabmalloc.process import refusals, summary
        def ask(number):
            kept = [bytearray(i) for i in range(1000)]
            for _ in range(300):
                assert list(slabmalloc.stats().domains) == ["raw", "malloc"]
                summary(1.0, as_json=True)
                slabmalloc.trim()
                _pymem.audit()
        in_threads(ask)
        sound()
        print(sys._is_gil_enabled(), "slabmalloc._native" in sys.modules, refusals())
        """),
        "-m",
        "slabmalloc",
        "run",
        "--quiet",
    )
    refused = {"obj": REFUSAL, "mem": REFUSAL, "raw": None, "numpy": None}
    assert (done.returncode, done.stdout, done.stderr) == (0, f"False False {refused}\n", LINE)


@needs_free_threaded
def test_the_wrapper_form_is_refused_obj_and_mem_and_leaves_the_lock_off() -> None:
    done = own("print('never')", "-m", "slabmalloc", "run", "--in-process")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"slabmalloc run: {REFUSAL}\n")
    done = own("""
        import slabmalloc, sys
        try:
            slabmalloc.install()
        except RuntimeError as error:
            print(error)
        print(slabmalloc.stats().domains, slabmalloc.trim(), sys._is_gil_enabled())
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{REFUSAL}\n{{}} 0 False\n", "")
    done = own("print('on')", "-m", "slabmalloc", "run", "--in-process", "--domains=raw,numpy", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")
    done = own("""
        import slabmalloc, sys, threading
        slabmalloc.install(["raw", "numpy"])
        threads = [threading.Thread(target=list, args=[range(1000)]) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(slabmalloc.stats().domains["raw"].served_blocks > 0, slabmalloc.stats().conserved, sys._is_gil_enabled())
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True False\n", "")


@needs_free_threaded
def test_a_table_of_offsets_that_is_not_believed_does_not_make_it_a_build_with_a_lock() -> None:
    done = own("""
        import ctypes, sys
        ctypes.memset(ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime")), 0, 8)
        import slabmalloc
        try:
            slabmalloc.install()
        except RuntimeError as error:
            print(error)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{REFUSAL}\n", "")


@needs_free_threaded
def test_zones_turn_the_lock_on() -> None:
    done = own("import slabmalloc, sys; slabmalloc.ZoneAllocator; print(sys._is_gil_enabled())", "-W", "always")
    assert (done.returncode, done.stdout) == (0, "True\n")
    assert "has been enabled to load module 'slabmalloc._native'" in done.stderr
