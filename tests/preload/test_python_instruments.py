# SPDX-License-Identifier: MIT
"""CPython's own instruments, and misuse of its domains, under preload."""

from __future__ import annotations

import signal

import pytest
from preloaded import check, run

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


DOMAINS = {"PyMem_Raw": "raw"}
if not IS_FREE_THREADED:
    DOMAINS |= {"PyObject": "obj", "PyMem": "mem"}


@pytest.mark.parametrize("prefix", DOMAINS)
@pytest.mark.parametrize(
    ("misuse", "words"),
    [
        ("free(block); free(block)", "double free of 0x{0:x} ({1}): slot {2} of a 3072-byte slab is already free"),
        ("free(block + 8)", "invalid free of 0x{3:x} ({1}): 8 bytes into slot {2} of a 3072-byte slab, which is live"),
        (
            "free(block); realloc(block, 9)",
            "invalid realloc of 0x{0:x} ({1}): slot {2} of a 3072-byte slab is already free",
        ),
        ("in_thread(block); free(block)", "double free of 0x{0:x} ({1}): slot {2} of a 3072-byte slab is already free"),
    ],
    ids=["twice", "inside", "realloc", "after another thread"],
)
def test_misuse_of_a_domain_ends_it_with_one_line(prefix: str, misuse: str, words: str) -> None:
    name = prefix if prefix.endswith("Raw") else f"{prefix}_"
    done = run(f"""
        def declare(name, result, *arguments):
            function = getattr(ctypes.pythonapi, "{name}" + name)
            function.argtypes, function.restype = arguments, result
            return function
        malloc = declare("Malloc", ctypes.c_void_p, ctypes.c_size_t)
        realloc = declare("Realloc", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
        free = declare("Free", None, ctypes.c_void_p)
        def in_thread(block):
            thread = threading.Thread(target=free, args=[block])
            thread.start()
            thread.join()
        block = [malloc(3000) for _ in range(100)][50]
        print(block, block % 65536 // 3072, flush=True)
        {misuse}
    """)
    address, slot = map(int, done.stdout.split())
    assert done.stderr == f"slabmalloc: {words.format(address, DOMAINS[prefix], slot, address + 8)}\n"
    assert done.returncode == -signal.SIGABRT
