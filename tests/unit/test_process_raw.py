# SPDX-License-Identifier: MIT
"""CPython's `raw` domain in the wrapper form: from any thread, with and without the interpreter lock."""

from __future__ import annotations

import os

import pytest

from forms import needs_domains
from installed import check, run
from stop_line import stop_line

# The same functions called without the interpreter lock, and threads that CPython does not know.
WITHOUT_LOCK = """
slabmalloc.install("raw")
library = ctypes.CDLL(None)
def unlocked(name, *arguments, result=pointer):
    function = getattr(library, name)
    function.argtypes, function.restype = arguments, result
    return function
raw_malloc, raw_calloc = unlocked("PyMem_RawMalloc", size), unlocked("PyMem_RawCalloc", size, size)
raw_realloc, raw_free = unlocked("PyMem_RawRealloc", pointer, size), unlocked("PyMem_RawFree", pointer, result=None)
def in_strange_thread(function, argument):
    thread, result = ctypes.c_ulong(), pointer()
    assert library.pthread_create(ctypes.byref(thread), None, function, pointer(argument)) == 0
    assert library.pthread_join(thread, ctypes.byref(result)) == 0
    return result.value

def row():
    return stats().domains["raw"]
"""


def test_every_call_is_counted() -> None:
    check(
        WITHOUT_LOCK
        + """
before = row()
blocks = [raw_malloc(100) for _ in range(1000)] + [raw_calloc(10, 10) for _ in range(1000)]
made = row()
assert all(map(_pymem.owns, blocks))
# A few are the interpreter's own.
assert 2000 <= made.served_blocks - before.served_blocks < 2100
assert 200_000 <= made.served_bytes - before.served_bytes < 400_000
assert {raw_realloc(block, 105) for block in blocks} == set(blocks)
resized = row()
assert 2000 <= resized.resized_blocks - made.resized_blocks < 2100
assert resized.served_blocks - made.served_blocks < 100
moved = [raw_realloc(block, 1000) for block in blocks]
assert 2000 <= row().served_blocks - resized.served_blocks < 2100
assert 2000 <= row().freed_blocks - resized.freed_blocks < 2100
for block in moved:
    raw_free(block)
assert 4000 <= row().freed_blocks - resized.freed_blocks < 4100
assert row().passed_blocks == 0
is_sound()
"""
    )


def test_threads_free_each_others_blocks() -> None:
    check(
        WITHOUT_LOCK
        + """
import random
random.seed(21)
slots = [None] * 64
lock = threading.Lock()
before = stats()
def work(number):
    dice = random.Random(number)
    for step in range(4000):
        length = dice.choice([1, 20, 100, 500, 3000, 20_000, 200_000]) + number
        block = raw_calloc(1, length) if step % 3 == 0 else raw_malloc(length)
        if step % 3 == 0:
            assert ctypes.string_at(block, length) == bytes(length)
        ctypes.memset(block, number + 1, length)
        if step % 5 == 0:
            block, length = raw_realloc(block, length + 300), length + 300
            assert ctypes.string_at(block, length - 300) == bytes([number + 1]) * (length - 300)
            ctypes.memset(block, number + 1, length)
        with lock:
            slot = dice.randrange(64)
            mine, slots[slot] = slots[slot], (block, length, number + 1)
        if mine is not None:
            block, length, content = mine
            assert ctypes.string_at(block, length) == bytes([content]) * length
            raw_free(block)
in_threads(work)
for block, length, content in filter(None, slots):
    assert ctypes.string_at(block, length) == bytes([content]) * length
    raw_free(block)
assert stats().remote_frees - before.remote_frees > 1000
assert stats().live_objects - before.live_objects < 100
is_sound()
"""
    )


def test_threads_that_python_does_not_know() -> None:
    check(
        WITHOUT_LOCK
        + """
before = row()
blocks = [in_strange_thread(raw_malloc, 3000) for _ in range(200)]
assert all(map(_pymem.owns, blocks)) and len(set(blocks)) == 200
assert row().served_blocks - before.served_blocks >= 200
for block in blocks:
    ctypes.memset(block, 7, 3000)
    in_strange_thread(raw_free, block)
assert row().freed_blocks - before.freed_blocks >= 200
assert stats().heaps <= 4, stats().heaps
is_sound()
"""
    )


def test_heaps_of_threads_that_ended_serve_the_next() -> None:
    check(
        WITHOUT_LOCK
        + """
kept = []
def work(number):
    kept.extend(raw_malloc(500) for _ in range(100))
for _ in range(40):
    in_threads(work, 2)
assert len(kept) == 8000 == len(set(kept))
assert 2 <= stats().heaps <= 6 and stats().abandoned_heaps >= 1, stats()
for block in kept:
    raw_free(block)
is_sound()
"""
    )


def test_forked_children_have_blocks_of_their_own() -> None:
    check(
        WITHOUT_LOCK
        + """
stop = threading.Event()
def churn():
    held = []
    while not stop.is_set():
        held.append(raw_malloc(len(held) * 37 % 5000))
        if len(held) > 300:
            for block in held: raw_free(block)
            held.clear()
threads = [threading.Thread(target=churn) for _ in range(3)]
for thread in threads: thread.start()
kept = [raw_malloc(1000) for _ in range(1000)]
for block in kept: ctypes.memset(block, 5, 1000)
for _ in range(20):
    child = os.fork()
    if child == 0:
        assert all(ctypes.string_at(block, 1000) == bytes([5]) * 1000 for block in kept)
        for block in kept[::2]: raw_free(block)
        more = [raw_malloc(1000) for _ in range(1000)]
        assert not set(more) & set(kept[1::2])
        assert _pymem.audit() is None, _pymem.audit()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads: thread.join()
assert all(ctypes.string_at(block, 1000) == bytes([5]) * 1000 for block in kept)
for block in kept: raw_free(block)
assert _pymem.audit() is None, _pymem.audit()
""",
        "-W",
        "ignore::DeprecationWarning",  # of fork with threads, since 3.12
    )


def test_tracemalloc_on_top_of_it() -> None:
    check(
        WITHOUT_LOCK
        + """
import tracemalloc
older = [raw_malloc(1000) for _ in range(100)]
tracemalloc.start()
kept = [raw_malloc(1000) for _ in range(100)]
assert tracemalloc.get_traced_memory()[0] > 100_000
tracemalloc.stop()
for block in older + kept:
    assert _pymem.owns(block)
    raw_free(block)
assert row().freed_blocks >= 200
is_sound()
"""
    )


@pytest.mark.parametrize("thread", ["own", "another", "strange"])
def test_freed_twice_it_ends_with_one_line(thread: str) -> None:
    call = {
        "own": "raw_free(block)",
        "another": "in_threads(lambda _: raw_free(block), 1)",
        "strange": "in_strange_thread(raw_free, block)",
    }[thread]
    done = run(f"""
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        exec({WITHOUT_LOCK!r})
        block = [raw_malloc(3000) for _ in range(100)][50]
        print(block, flush=True)
        raw_free(block)
        {call}
    """)
    text = (
        "double free of ADDRESS (raw): slot SLOT of a 3072-byte slab is already free; "
        "the slab is partial, 20 of 21 slots live"
    )
    assert (done.returncode, done.stderr) == (-6, stop_line(text, int(done.stdout)))


# ---- above other allocators -------------------------------------------------------------------------------------

DEBUG = {"env": {**os.environ, "PYTHONMALLOC": "debug"}}


@needs_domains
@pytest.mark.parametrize("allocator", ["pymalloc", "malloc", "debug"])
def test_older_blocks_that_their_maker_enlarges_from_raw(allocator: str) -> None:
    """Debug hooks put words of their own before a block: were it ours, the block would begin inside one of ours."""
    check(
        """
        older = {domain: [malloc[domain](n) for n in (1, 400, 512, 600, 5000)] for domain in malloc}
        slabmalloc.install()
        for domain, blocks in older.items():
            for block in blocks:
                ctypes.memset(block, 9, 1)
                for bytes_now in (700, 3000, 20_000, 10):
                    block = realloc[domain](block, bytes_now)
                    assert ctypes.string_at(block, 1) == bytes([9]) and not _pymem.owns(block)
                free[domain](block)
        assert all(_pymem.owns(malloc[domain](600)) for domain in malloc)
        is_sound()
        """,
        env={**os.environ, "PYTHONMALLOC": allocator},
    )


@needs_domains
@pytest.mark.parametrize("domain", ["obj", "mem"])
def test_debug_hooks_do_not_come_between(domain: str) -> None:
    check(
        f"""
        slabmalloc.install("raw")
        kept = bytearray(5000)
        try:
            slabmalloc.install("{domain}")
        except RuntimeError as error:
            assert "come before raw" in str(error), error
        else:
            raise AssertionError
        assert list(stats().domains) == ["raw"]
        slabmalloc.install("raw")
        """,
        **DEBUG,
    )
    check(
        f"""
        slabmalloc.install("{domain}")
        slabmalloc.install("raw")
        slabmalloc.install("{domain}")
        kept = [bytearray(n) for n in range(3000)]
        del kept
        is_sound()
        """,
        **DEBUG,
    )


@needs_domains
def test_one_domain_after_the_other_without_debug_hooks() -> None:
    check("""
        held = {}
        for domain in ("raw", "mem", "obj"):
            slabmalloc.install(domain)
            held[domain] = {name: [malloc[name](n) for n in (10, 600, 5000)] for name in malloc}
        for blocks in held.values():
            for name, some in blocks.items():
                for block in some:
                    free[name](realloc[name](block, 2000))
        is_sound()
    """)
