# SPDX-License-Identifier: MIT
"""Python programs while the system refuses memory: a piece of work of all kinds, each of its requests refused in turn.

What can't be had is a MemoryError, or the interpreter's own allocator has it; whatever was had before is whole. When
there is memory again the same work is done, and as much is live as before: nothing has leaked.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest
from preloaded import LIBRARY, run

MMAP, MREMAP, MPROTECT, MUNMAP, MADVISE, OF_ALL = 1, 2, 4, 8, 16, 32
MEMORY, NEVER = MMAP | MREMAP | MPROTECT, 2**63
"""Kinds of requests as `faults.c` has them, and the number of a request that nobody makes."""

FAULTS = f"""
MMAP, MREMAP, MPROTECT, MUNMAP, MADVISE, OF_ALL = {MMAP}, {MREMAP}, {MPROTECT}, {MUNMAP}, {MADVISE}, {OF_ALL}
MEMORY, NEVER = {MEMORY}, {NEVER}
"""
FAULTS += """
import _thread, errno
from contextlib import suppress
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1" # other threads than ours would be waited for
try:
    import numpy as np
except ImportError:
    np = None
c = ctypes.CDLL(None, use_errno=True)
c.faults_arm.argtypes = [ctypes.c_uint, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_int]
c.faults_disarm.restype = ctypes.c_ulong
for name, count in ("malloc", 1), ("calloc", 2), ("PyMem_RawMalloc", 1):
    getattr(c, name).restype, getattr(c, name).argtypes = ctypes.c_void_p, [ctypes.c_size_t] * count
for name in "realloc", "PyMem_RawRealloc":
    getattr(c, name).restype, getattr(c, name).argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t]
for name in "free", "PyMem_RawFree":
    getattr(c, name).restype, getattr(c, name).argtypes = None, [ctypes.c_void_p]

# Each returns what it made, and a function that says whether this is whole. MemoryError may come out of any line.
def small():
    made = [bytes([n % 256]) * n for n in range(0, 8192, 13)]
    return made, lambda: all(made[i] == bytes([n % 256]) * n for i, n in enumerate(range(0, 8192, 13)))
def burst():
    made = [(i, str(i), [i]) for i in range(6000)]
    return made, lambda: all(one == (i, str(i), [i]) for i, one in enumerate(made))
def medium():
    made = [bytearray(b"m" * n) for n in range(8193, 131072, 4099)]
    return made, lambda: all(one.count(b"m") == n for one, n in zip(made, range(8193, 131072, 4099)))
def large():
    made = [bytearray(b"l" * (n << 17)) for n in range(1, 12, 2)]
    return made, lambda: all(one.count(b"l") == n << 17 for one, n in zip(made, range(1, 12, 2)))
def grown():
    made = bytearray()
    while len(made) < 3 << 20:
        made.extend(b"g" * (len(made) // 3 + 10))
    count = len(made)
    return made, lambda: made.count(b"g") == count
def shrunk():
    made = bytearray(b"s" * (3 << 20))
    while len(made) > 100:
        del made[len(made) // 3:]
    count = len(made)
    return made, lambda: made.count(b"s") == count
def listed():
    made = []
    for i in range(30_000):
        made.append(None)
    while len(made) > 10:
        del made[len(made) // 2:]
    return made, lambda: set(made) == {None}
def mapped():
    made = {}
    for i in range(6000):
        made[i] = i
    return made, lambda: len(made) == 6000 and all(made[i] == i for i in made)
def zeros():
    if np is None:
        return None, lambda: True
    made = [np.zeros(n, dtype=np.uint8) for n in (100, 5000, 50_000, 300_000, 1 << 20)]
    made.append(np.ones(1 << 20, dtype=np.uint8))
    made[-1].resize(2 << 20, refcheck=False)
    return made, lambda: not any(one.any() for one in made[:-1]) and made[-1].sum() == 1 << 20

class Raw:
    # Blocks of malloc; what is refused says ENOMEM and leaves the block.
    def __init__(self, first, grow, drop):
        self.block, self.count, self.drop = None, 0, drop
        ctypes.set_errno(0)
        for count in 100, 5000, 100_000, 500_000, 1 << 20, 200_000, 3000, 10:
            block = first(count) if self.block is None else grow(self.block, count)
            if block is None:
                assert first is c.PyMem_RawMalloc or ctypes.get_errno() == errno.ENOMEM
                assert self.is_whole()
                raise MemoryError
            if count > self.count:
                ctypes.memset(block + self.count, 82, count - self.count)
            self.block, self.count = block, count
            assert self.is_whole()
    def is_whole(self):
        return self.block is None or all(
            ctypes.string_at(self.block + at, 1) == b"R" for at in (0, self.count // 2, self.count - 1))
    def __del__(self):
        self.drop(self.block)
def raw():
    made = [Raw(c.malloc, c.realloc, c.free), Raw(c.PyMem_RawMalloc, c.PyMem_RawRealloc, c.PyMem_RawFree)]
    return made, lambda: all(one.is_whole() for one in made)
def cleared():
    blocks = []
    try:
        for count in 10, 1000, 20_000, 300_000, 1 << 20:
            block = c.calloc(1, count)
            if block is None:
                raise MemoryError
            blocks.append(block)
            assert ctypes.string_at(block, count).count(0) == count
            ctypes.memset(block, 255, count)
    finally:
        for block in blocks:
            c.free(block)
    return None, lambda: True
def threaded():
    # Not threading.Thread: its start waits for a thread that had no memory to say that it has begun.
    made = []
    def act(number):
        with suppress(MemoryError):
            made.append((number, bytearray(b"t" * 200_000), [str(i) for i in range(1000)]))
            raw()
    try:
        for number in range(3):
            _thread.start_new_thread(act, (number,))
    except RuntimeError: # can't start new thread
        pass
    finally:
        c.faults_wait_for_threads()
    if len(made) < 3:
        raise MemoryError
    return made, lambda: sorted(one[0] for one in made) == [0, 1, 2] and all(one[2][999] == "999" for one in made)

KINDS = small, burst, medium, large, grown, shrunk, listed, mapped, zeros, raw, cleared, threaded

def work():
    # Everything, as far as it can be had; returns what was had, and how many kinds were not.
    made, refused = [None] * len(KINDS), 0
    for i, kind in enumerate(KINDS):
        try:
            made[i] = kind()
        except MemoryError:
            refused += 1
    return made, refused

def whole(made):
    return all(one is None or one[1]() for one in made)

def live():
    gc.collect()
    slabmalloc.trim()
    stats = slabmalloc.stats()
    return stats.live_objects, stats.live_bytes

def work_with_refusals(kinds, first, last, error=errno.ENOMEM):
    # Returns how many kinds of work were refused.
    c.faults_arm(kinds, first, last, error)
    made, refused = work()
    requests = c.faults_disarm()
    c.faults_wait_for_threads()
    sound()
    assert whole(made)
    made = None
    gc.collect()
    sound()
    made, again = work()
    assert again == 0 and whole(made)
    made = None
    sound()
    return requests, refused
"""

# Small objects that are refused go to the interpreter's own allocator, which makes its tables once.
FAULTS += """
slabmalloc.trim()
made = []
refusals = 0
while slabmalloc.stats().domains["obj"].passed_blocks == 0:
    refusals = refusals % 8 + 1
    c.faults_arm(MPROTECT, 1, refusals, errno.ENOMEM) # for a chunk, but not again for whoever is asked then
    with suppress(MemoryError):
        made.append([bytes(n) for n in range(400, 470)]) # up to the 512 bytes that it has tables for
    c.faults_disarm()
del made
"""

IN_CHILDREN = """
def in_child(first, last):
    # What work_with_refusals says, and what is live in the end, in a child where nothing of the work was done before.
    ends = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            told = work_with_refusals(kinds, first, last), live()
            os.write(ends[1], repr(told).encode())
            code = 0
        except BaseException:
            c.faults_disarm()
            sys.excepthook(*sys.exc_info())
        os._exit(code)
    os.close(ends[1])
    with open(ends[0], "rb") as file:
        told = file.read()
    status = os.waitpid(child, 0)[1]
    assert status == 0, (first, last, status)
    return eval(told)

if kinds & OF_ALL: # a thread that has no memory to begin says so
    KINDS = KINDS[:-1]
(requests, refused), level = in_child(NEVER, NEVER)
assert requests > 20 and refused == 0, (requests, refused)
tried = seen = 0
for number in range(1, requests + 1, stride):
    (counted, refused), (objects, size) = in_child(number, NEVER if all_from_it_on else number)
    assert counted >= number or number > requests - 10, (counted, number) # threads take turns
    tried += 1
    seen += refused > 0
    # What the interpreter keeps of exceptions is not the same each time; its own allocator may have a table more, of
    # 128 KiB, if the address that it was given is far from those that it had.
    tables = round((size - level[1]) / (1 << 17))
    size -= tables << 17
    assert abs(objects - level[0]) < 30 and abs(size - level[1]) < 3000 and tables in (0, 1), (number, size, level)
# One alone is mostly asked for again, or passed on; a block that can't be moved by the kernel is copied.
assert seen > tried // 2 or not (all_from_it_on and kinds & MMAP), (seen, tried)
"""


def check_with(faults: str, program: str, *options: str) -> None:
    """Comes to its end; threads that had no memory to begin may say so on standard error."""
    done = run(FAULTS + textwrap.dedent(program), *options, LD_PRELOAD=faults)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "sound\n"
    assert "slabmalloc:" not in done.stderr


def sweep(faults: str, kinds: str, which: str, stride: int) -> None:
    settings = f"kinds, all_from_it_on, stride = {kinds}, {which == 'all from one on'}, {stride}\n"
    check_with(faults, settings + IN_CHILDREN)


@pytest.mark.parametrize("which", ["one request", "all from one on"])
@pytest.mark.parametrize("kinds", ["MEMORY", "MEMORY | OF_ALL"])
def test_requests_of_a_program_are_refused(faults: str, kinds: str, which: str) -> None:
    sweep(faults, kinds, which, 6)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["one request", "all from one on"])
@pytest.mark.parametrize(
    "kinds", ["MEMORY", "MMAP", "MREMAP | MPROTECT", "MEMORY | MUNMAP | MADVISE", "MEMORY | OF_ALL"]
)
def test_each_request_of_a_program_is_refused(faults: str, kinds: str, which: str) -> None:
    sweep(faults, kinds, which, 1)


def test_nothing_leaks_where_many_requests_are_refused(faults: str) -> None:
    """In one process: what each of them left would add up."""
    check_with(
        faults,
        """
        requests, refused = work_with_refusals(MEMORY, NEVER, NEVER)
        work_with_refusals(MEMORY, 1, NEVER)
        before, rounds = live(), 0
        for number in range(2, requests, 4):
            work_with_refusals(MEMORY, number, NEVER if number % 8 else number)
            rounds += 1
        objects, size = live()
        assert rounds > 12 and abs(objects - before[0]) < rounds and abs(size - before[1]) < 64 * rounds
        """,
    )


# ---- the start -------------------------------------------------------------------------------------------------------

START = """
import json
made = [bytearray(n) for n in (100, 5000, 50_000, 500_000)]
assert json.loads("[1, 2.5]") == [1, 2.5] and not any(map(any, made))
import ctypes
count = ctypes.CDLL(None).faults_disarm()
print("well after", count)
"""
WELL = r"well after (\d+)\n"
NO_MEMORY = "Fatal Python error: |Error"  # and then whatever step it was
MOST_OF_ONE_BLOCK = 4
"""Requests that one call of malloc may make."""


def start(faults: str, first: int, last: int, kinds: int) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "LD_PRELOAD": f"{LIBRARY}:{faults}",
        "FAULTS": f"{kinds} {first} {last} 12",
    }
    # Isolated: what a user has installed shall not need memory as well.
    command = [sys.executable, "-I", "-c", START]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("kinds", [MEMORY, MEMORY | OF_ALL])
def test_the_interpreter_starts_or_says_that_it_can_not(faults: str, kinds: int) -> None:
    said = re.fullmatch(WELL, start(faults, NEVER, NEVER, kinds).stdout)
    assert said
    requests = int(said[1])
    assert requests >= 12
    crashed = set()
    for number in range(1, requests + 1):
        for last in (number, NEVER) if kinds == MEMORY else (NEVER,):
            done = start(faults, number, last, kinds)
            if done.returncode == 0:
                assert re.fullmatch(WELL, done.stdout)
            elif done.returncode == -signal.SIGSEGV and sys.version_info < (3, 12):
                # PyThreadState_New does not look whether its memory was refused. Whether requests are made just there
                # depends on all that was allocated before, the lengths of paths and variables too.
                crashed.add(number)
                assert max(crashed) - min(crashed) < MOST_OF_ONE_BLOCK, (number, last, done)
            else:
                # CPython ends by exit or, where its exceptions are not there yet, by abort.
                assert done.returncode in (1, -signal.SIGABRT), (number, last, done)
                assert done.returncode == 1 or "Fatal Python error: " in done.stderr, (number, last, done)
                assert re.search(NO_MEMORY, done.stderr), (number, last, done)


def test_who_is_first_is_not_told_where_nobody_has_memory(faults: str) -> None:
    done = run("", LD_PRELOAD=faults, FAULTS=f"{MEMORY} 1 {NEVER} 12")
    assert done.returncode == 1
    assert "the system grants no address space" in done.stderr
    assert "another library" not in done.stderr


# ---- fork, and memory that does not go back --------------------------------------------------------------------------


def test_children_while_the_system_refuses(faults: str) -> None:
    check_with(
        faults,
        """
        made, refused = work()
        assert refused == 0
        for number in 1, 2, 3, 5, 9, 17, 33, 65:
            c.faults_arm(MEMORY, number, NEVER, errno.ENOMEM)
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    more, refused = work()
                    c.faults_disarm()
                    c.faults_wait_for_threads()
                    sound()
                    assert refused or number > 30
                    assert whole(made) and whole(more)
                    made = more = None
                    more, refused = work()
                    assert refused == 0 and whole(more)
                    sound()
                    code = 0
                except BaseException:
                    c.faults_disarm()
                    sys.excepthook(*sys.exc_info())
                os._exit(code)
            c.faults_disarm()
            wait_for(child)
        assert whole(made)
        """,
        "-W",
        "ignore::DeprecationWarning",
    )


def test_memory_that_does_not_go_back(faults: str) -> None:
    check_with(
        faults,
        """
        def work_and_trim():
            made, refused = work()
            assert refused == 0 and whole(made)
            made = None
            gc.collect()
            return slabmalloc.trim() + c.malloc_trim(0)
        assert work_and_trim() > 8 << 20
        before = live()
        for kinds, error in (MADVISE, errno.EAGAIN), (MUNMAP, errno.ENOMEM), (MADVISE | MUNMAP, errno.EINVAL):
            for first, last in [(n, n) for n in range(1, 60, 6)] + [(1, NEVER)]:
                c.faults_arm(kinds, first, last, error)
                given = work_and_trim()
                requests = c.faults_disarm()
                assert requests >= min(first, 10), (kinds, first, requests)
                sound()
                assert given > 0 or last == NEVER, (kinds, first, given)
            assert (given == 0) == (kinds == MADVISE | MUNMAP), (kinds, given)
            assert work_and_trim() > 0
        objects, size = live()
        assert abs(objects - before[0]) < 30 and abs(size - before[1]) < 3000, (objects, size, before)
        """,
    )
