# SPDX-License-Identifier: MIT
"""NumPy's data in the wrapper form: through the functions of its default handler, or (from 2.5 on) through `raw`.

`tools/ci/numpy.sh` runs these with several releases of NumPy.
"""

from __future__ import annotations

import os
import signal

import pytest

from forms import IS_FREE_THREADED
from installed import check, run

pytest.importorskip("numpy")

DOMAINS = ["raw", "numpy"] if IS_FREE_THREADED else ["obj", "mem", "raw", "numpy"]

START = f"""
slabmalloc.install({DOMAINS!r})
"""
# `IN`: the domain in which the data is counted.
IMPORT = """
import numpy as np
IN = "numpy" if "numpy" in stats().domains else "raw"
"""
HELPERS = """
def owned(*arrays):
    return all(_pymem.owns(array.ctypes.data) for array in arrays)

# From one byte to what has a mapping of its own; 1,023 and less go through a cache.
COUNTS = (1, 7, 64, 1000, 1023, 1024, 5000, 100_000, 200_000, 5 << 20)
# Where NumPy asks `raw`, small blocks of before go round in its own cache, which is in front of that.
def comes_from_us(nbytes):
    return not WAS_THERE or IN == "numpy" or nbytes >= 1024
WAS_THERE = False
"""
INSTALLED = START + IMPORT + HELPERS


def test_numpy_is_not_needed() -> None:
    check(
        START
        + """
assert not any(name.partition(".")[0] == "numpy" for name in sys.modules)
assert "numpy" not in stats().domains
assert slabmalloc.process.refusals()["numpy"] is None
is_sound()
"""
    )


@pytest.mark.parametrize("was_there", [False, True])
def test_every_array_in_every_thread(was_there: bool) -> None:
    check(
        (IMPORT if was_there else "")
        + INSTALLED
        + f"WAS_THERE = {was_there}"
        + """
def work(number):
    for count in filter(comes_from_us, COUNTS):
        a = np.empty(count, "u1")
        b = np.zeros(count, "u1")
        c = np.full(count, number, "u1")
        d = c + b
        e = d.copy()
        assert owned(a, b, c, d, e), count
        assert (e == number).all()
work(0)
in_threads(work)
some = np.array([1, 2]), np.arange(3.0), np.array(["text"]), np.array([object()])
assert all(owned(array) == comes_from_us(array.nbytes) for array in some) or WAS_THERE
is_sound()
"""
    )


def test_the_import_hook_leaves() -> None:
    check(
        """
finders = list(sys.meta_path)
slabmalloc.install("numpy")
slabmalloc.install("numpy")
assert len(sys.meta_path) == len(finders) + 1
import numpy
assert sys.meta_path == finders
assert "numpy" in stats().domains
slabmalloc.install("numpy")
assert sys.meta_path == finders
"""
    )


def test_every_allocation_is_counted() -> None:
    check(
        INSTALLED
        + """
kept = [np.empty(2000, "u1") for _ in range(100)]
before = stats()
kept += [np.empty(2000, "u1") for _ in range(1000)]
after = stats()
rows = before.domains[IN], after.domains[IN]
# Shape and strides are blocks of `raw` too, where NumPy asks that.
most = 1100 if IN == "numpy" else 2200
assert 1000 <= rows[1].served_blocks - rows[0].served_blocks < most
assert 2_000_000 <= rows[1].served_bytes - rows[0].served_bytes < 2_100_000
assert IN == "raw" or rows[1].passed_blocks == 0
assert after.live_objects - before.live_objects >= 1000
is_sound()
del kept
assert 1100 <= stats().domains[IN].freed_blocks - rows[1].freed_blocks < most + 100
is_sound()
"""
    )


OLDER = """
import numpy as np
counts = (1, 64, 1000, 5000, 100_000, 200_000, 5 << 20)
older = [np.arange(count) for count in counts for _ in range(20)]
"""


def test_arrays_that_are_older() -> None:
    check(
        OLDER
        + INSTALLED
        + """
assert not any(map(owned, older))
for array in older[::2]:
    count = array.size
    array.resize(2 * count + 3, refcheck=False)
    assert (array[:count] == np.arange(count)).all() and not array[count:].any()
    array.resize(count // 2 + 1, refcheck=False)
    assert (array == np.arange(count // 2 + 1)).all()
del array
in_threads(lambda _: older.clear(), 1)
WAS_THERE = True
assert all(owned(np.arange(count)) for count in counts if comes_from_us(8 * count))
is_sound()
"""
    )


def test_arrays_that_grow_and_shrink() -> None:
    check(
        INSTALLED
        + """
def work(number):
    arrays = [np.full(count, number, "u1") for count in COUNTS]
    for array in arrays:
        kept = array.size
        for count in (*COUNTS, *COUNTS[::-1]):
            array.resize(count, refcheck=False)
            assert owned(array)
            kept = min(kept, count)
            assert (array[:kept] == number).all() and not array[kept:].any(), (kept, count)
work(9)
in_threads(work)
assert stats().domains[IN].resized_blocks > 0
is_sound()
"""
    )


def test_zeros_are_zero_after_dirty_frees() -> None:
    check(
        INSTALLED
        + """
def work(number):
    for count in COUNTS:
        for _ in range(3):
            dirty = [np.full(count, 0xA5, "u1") for _ in range(10)]
            del dirty
            clean = [np.zeros(count, "u1") for _ in range(10)]
            assert not any(array.any() for array in clean), count
            assert owned(*clean)
            for array in clean:
                array += 1
            del clean, array
work(0)
in_threads(work, 2)
is_sound()
"""
    )


def test_threads_that_end_leave_their_arrays() -> None:
    check(
        INSTALLED
        + """
kept = []
for _ in range(20):
    in_threads(lambda number: kept.extend(np.full(count, number, "u1") for count in COUNTS[:-1]), 3)
assert owned(*kept) and len(kept) == 60 * (len(COUNTS) - 1)
assert all((array == array[0]).all() for array in kept)
in_threads(lambda _: kept.clear(), 1)
is_sound()
"""
    )


def test_forked_children() -> None:
    check(
        INSTALLED
        + """
kept = [np.full(count, 3, "u1") for count in COUNTS]
child = os.fork()
if child == 0:
    more = [array + 1 for array in kept]
    assert owned(*more) and all((array == 4).all() for array in more)
    kept.clear()
    in_threads(lambda _: more.clear(), 1)
    is_sound()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert all((array == 3).all() for array in kept)
is_sound()
""",
        "-W",
        "ignore::DeprecationWarning",  # of fork with threads, since 3.12: NumPy's libraries have some
    )


def test_tracemalloc_sees_the_data() -> None:
    check(
        INSTALLED
        + """
import tracemalloc
older = np.empty(1 << 20, "u1")
tracemalloc.start()
kept = [np.empty(1 << 20, "u1"), np.empty(100, "u1")]
domain = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
traced = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([domain]).traces)
assert (1 << 20) + 100 <= traced < 3 << 19, traced
tracemalloc.stop()
del older, kept
assert owned(np.empty(1 << 20, "u1"))
is_sound()
"""
    )


def test_numpy_may_come_while_tracemalloc_is_at_work() -> None:
    check(
        """
slabmalloc.install("raw")
import tracemalloc
tracemalloc.start()
slabmalloc.install(["raw", "numpy"])
import numpy as np
kept = [np.empty(count) for count in (10, 1000, 100_000)]
assert all(_pymem.owns(array.ctypes.data) for array in kept)
tracemalloc.stop()
del kept
is_sound()
"""
    )


ADVICE = """
if not os.path.exists("/sys/kernel/mm/transparent_hugepage"):
    sys.exit("no huge pages here")
def is_advised(array):
    middle, lines = array.ctypes.data + array.nbytes // 2, iter(open("/proc/self/smaps").readlines())
    for line in lines:
        begin, dash, end = line.split()[0].partition("-")
        if dash and int(begin, 16) <= middle < int(end, 16):
            return "hg" in next(line for line in lines if line.startswith("VmFlags")).split()
core = getattr(np, "_core", None) or np.core
LARGE, SMALLER = 4 << 20, (4 << 20) - 1
def fresh(make, count):
    slabmalloc.trim()  # what rests may have been advised
    return is_advised(make(count, "u1"))
"""


@pytest.mark.parametrize("setting", ["0", "1"])
def test_advice_for_huge_pages_as_numpys_setting_says(setting: str) -> None:
    done = run(
        INSTALLED
        + ADVICE
        + f"""
assert {setting} == fresh(np.empty, LARGE) == fresh(np.zeros, LARGE)
assert not fresh(np.empty, SMALLER) and not fresh(np.zeros, SMALLER)
assert core.multiarray._set_madvise_hugepage(not {setting}) == {setting}
assert fresh(np.empty, LARGE) == (not {setting}) == core.multiarray._set_madvise_hugepage({setting})
array = np.full(LARGE, 7, "u1")
array.resize(10 * LARGE, refcheck=False)
assert owned(array) and (array[:LARGE] == 7).all() and not array[LARGE:].any()
is_sound()
""",
        env={**os.environ, "NUMPY_MADVISE_HUGEPAGE": setting},
    )
    if done.stderr == "no huge pages here\n":
        pytest.skip("this kernel has no transparent huge pages")
    assert done.returncode == 0, done.stderr


# ---- the handler's functions, called with the lock, as NumPy calls them -----------------------------------------

FUNCTIONS = """
core = sys.modules.get("numpy._core._multiarray_umath") or sys.modules["numpy.core._multiarray_umath"]
get = ctypes.pythonapi.PyCapsule_GetPointer
get.restype, get.argtypes = pointer, [ctypes.py_object, ctypes.c_char_p]
table = ctypes.cast(get(core._ARRAY_API, None), ctypes.POINTER(pointer))
handler = get(ctypes.cast(table[306], ctypes.POINTER(ctypes.py_object))[0], b"mem_handler")
def function(place, *kind):
    return ctypes.PYFUNCTYPE(*kind)((pointer * 5).from_address(handler + 128)[place])
new, give = function(1, pointer, pointer, size), function(4, None, pointer, pointer, size)
"""


# The first free goes to the heap, to the cache, or to the heap because the cache is full.
@pytest.mark.parametrize(
    ("count", "others"),
    [(3000, 0), (64, 0), (1000, 0), *([] if IS_FREE_THREADED else [(64, 7), (1000, 7)])],
)
def test_freed_twice_it_ends_with_one_line(count: int, others: int) -> None:
    done = run(
        INSTALLED
        + FUNCTIONS
        + f"""
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
COUNT = {count}
block = [new(None, COUNT) for _ in range(50)][20]
others = [new(None, COUNT) for _ in range({others})]
print(IN, hex(block), flush=True)
for other in others: give(None, other, COUNT)
give(None, block, COUNT)
for _ in others: new(None, COUNT)
give(None, block, COUNT)
"""
    )
    domain, address = done.stdout.split()
    if domain == "raw" and count < 1024:
        pytest.skip("NumPy's own cache, which is in front of `raw`, does not look")
    assert done.stderr.startswith(f"slabmalloc: double free of {address} ({domain}): slot ")
    assert " is already free; the slab is " in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.returncode == -signal.SIGABRT


def test_a_size_that_is_not_the_blocks_does_no_harm() -> None:
    """NumPy says another size than it asked for, now and then: of arrays without an element, for one."""
    done = run(
        INSTALLED
        + FUNCTIONS
        + """
if IN == "raw":
    sys.exit("skip")
for told in (1, 16, 100, 600, 1000, 1023):
    for block in [new(None, 16) for _ in range(100)]:
        give(None, block, told)
    again = [new(None, told) for _ in range(100)]
    assert len(set(again)) == 100
    for number, block in enumerate(again):
        ctypes.memset(block, number, told)
    for number, block in enumerate(again):
        assert ctypes.string_at(block, told) == bytes([number]) * told
        give(None, block, told)
is_sound()
"""
    )
    if done.stderr == "skip\n":
        pytest.skip("NumPy's own cache, which is in front of `raw`, believes what it is told")
    assert done.returncode == 0, done.stderr


# ---- a NumPy that looks different -------------------------------------------------------------------------------

# A module with a table of functions and a handler as NumPy has them, but for what differs.
FAKE = """
import types
ABI, FEATURES, NAME, VERSION, TABLE = 0x02000000, 20, b"default_allocator", 1, True
kept = []
def core():
    number = ctypes.CFUNCTYPE(ctypes.c_uint)
    versions = number(lambda: ABI), number(lambda: FEATURES)
    handler = ctypes.create_string_buffer(NAME + bytes(127 - len(NAME)) + bytes([VERSION]) + b"1" * 40)
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, [pointer, ctypes.c_char_p, pointer]
    name = ctypes.create_string_buffer(b"mem_handler")
    default = ctypes.py_object(capsule(ctypes.addressof(handler), ctypes.cast(name, ctypes.c_char_p), None))
    table = (pointer * 307)()
    table[0], table[211] = (ctypes.cast(version, pointer) for version in versions)
    table[306] = ctypes.addressof(default)
    kept.append((versions, handler, name, default, table))
    module = types.ModuleType("numpy._core._multiarray_umath")
    if TABLE:
        module._ARRAY_API = capsule(ctypes.addressof(table), None, None)
    return module
"""


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        ("", None),
        ("TABLE = False", "shows no table of its C functions"),
        ("ABI = 0x03000000", "of another kind than those from 1.22 to 2"),
        ("FEATURES = 14", "of another kind than those from 1.22 to 2"),
        ("NAME = b'other'", "not the one that NEP 49 describes"),
        ("VERSION = 2", "not the one that NEP 49 describes"),
    ],
)
def test_a_numpy_that_looks_different_is_refused(difference: str, words: str | None) -> None:
    check(
        FAKE
        + f"""
{difference}
words = {words!r}
sys.modules["numpy._core._multiarray_umath"] = core()
reason = slabmalloc.process.refusals()["numpy"]
assert reason is None if words is None else words in reason, reason
if words is not None:
    try:
        slabmalloc.install({DOMAINS!r})
    except RuntimeError as error:
        assert words in str(error)
    else:
        raise AssertionError
    assert not stats().domains  # nothing has changed
    slabmalloc.install({DOMAINS[:-1]!r})
    is_sound()
"""
    )


@pytest.mark.parametrize("action", ["error", "always"])
def test_one_that_comes_later_is_told_by_a_warning(action: str) -> None:
    done = run(
        FAKE
        + """
slabmalloc.install("numpy")
VERSION = 2
sys.modules["numpy._core._multiarray_umath"] = core()
import colorsys  # whatever is not there yet
assert "NEP 49" in slabmalloc.process.refusals()["numpy"]
assert "numpy" not in stats().domains
assert not any(type(finder).__name__ == "_Watch" for finder in sys.meta_path)
""",
        "-W",
        f"{action}::RuntimeWarning",
    )
    assert done.returncode == 0, done.stderr
    told = "RuntimeWarning: slabmalloc does not serve NumPy's data: this NumPy's default handler of data is not the one"
    assert (told in done.stderr) == (action == "always")
