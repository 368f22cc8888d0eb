# SPDX-License-Identifier: MIT
"""CPython's own instruments under preload."""

from __future__ import annotations

import signal

import pytest
from preloaded import by_malloc, check, not_served, run

from forms import IS_FREE_THREADED


def test_tracemalloc_starts_and_stops() -> None:
    check("""
        import tracemalloc
        for round in range(3):
            older = [bytes(100 + i % 5000) for i in range(5000)]
            tracemalloc.start(5)
            kept = [bytes(100 + i % 5000) for i in range(5000)]
            large = bytearray(5 << 20)
            traced = tracemalloc.get_traced_memory()[0]
            assert traced > 5 << 20, traced
            assert tracemalloc.get_object_traceback(kept[77]) is not None
            del older
            tracemalloc.take_snapshot().statistics("lineno")
            tracemalloc.stop()
            large += bytes(5 << 20)
            del kept, large
            sound()
    """)


ALLOCATORS = (
    ["mimalloc", "mimalloc_debug"] if IS_FREE_THREADED else ["malloc", "malloc_debug", "pymalloc", "pymalloc_debug"]
)


@pytest.mark.parametrize("allocator", ["debug", *ALLOCATORS])
def test_pythonmalloc(allocator: str) -> None:
    said = (by_malloc if allocator.startswith("malloc") else not_served)(f"PYTHONMALLOC={allocator}")
    check(
        """
        def work(_):
            held = []
            for i in range(20_000):
                held.append(bytearray(i % 700))
                if len(held) > 300:
                    del held[::3]
                    held[7] += bytes(i % 3000)
        in_threads(work)
        """,
        PYTHONMALLOC=allocator,
        errors="" if IS_FREE_THREADED else said,
    )


def test_development_mode() -> None:
    check(
        """
        import json
        kept = [json.loads('{"a": [1, 2, 3]}') for _ in range(20_000)]
        in_threads(lambda number: [str(i) for i in range(20_000)])
        del kept
        """,
        "-X",
        "dev",
        errors="" if IS_FREE_THREADED else not_served("development mode (-X dev)"),
    )


@pytest.mark.parametrize("option", ["-X dev", "-X tracemalloc=3", "-X importtime", "-X showrefcount", "-O", "-s -B"])
def test_the_interpreters_options_are_kept(option: str) -> None:
    program = "print(sys.orig_argv[1 : sys.orig_argv.index('-c')])"
    assert check(program, *option.split(), errors=None) == f"{option.split()}\n"


def test_faulthandler_tells_of_a_crash() -> None:
    done = run("import faulthandler; faulthandler.enable(); faulthandler._sigsegv()")
    assert done.returncode == -signal.SIGSEGV
    assert done.stderr.startswith("Fatal Python error: Segmentation fault\n")
    assert 'File "<string>", line' in done.stderr
    done = run("c = ctypes.CDLL(None); c.free(ctypes.c_void_p(id(c) + 8))", "-X", "faulthandler")
    assert done.returncode == -signal.SIGABRT
    assert done.stderr.startswith("slabmalloc: invalid free of 0x")
    assert done.stderr.count("slabmalloc: ") == 1
    assert "\nFatal Python error: Aborted\n" in done.stderr


def test_the_interpreter_counts_its_blocks() -> None:
    check("""
        assert isinstance(sys.getallocatedblocks(), int)
        count = sys.getallocatedblocks()
        kept = [object() for _ in range(1000)]
        assert sys.getallocatedblocks() >= 0
        if hasattr(sys, "getunicodeinternedsize"):
            sys.getunicodeinternedsize()
    """)


def test_the_interpreter_tells_of_its_memory() -> None:
    check("sys._debugmallocstats()", errors=None)
