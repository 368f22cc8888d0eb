# SPDX-License-Identifier: MIT
"""Programs on other size classes than the default: how sets are written, what is refused, programs on extremes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from preloaded import RUN, check, run

from slabmalloc.process.domains import size_classes
from slabmalloc.size_classes import SizeClasses

LARGEST = 128 * 1024
MOST = 128
DEFAULT = tuple(size for size in SizeClasses.default().sizes if size % 16 == 0)
ALLOWED = (
    "(size classes are default, powers-of-two, geometric:N with N steps per doubling, or sizes in bytes with commas "
    "between them: ascending multiples of 16 up to 131072)"
)
FULL = ",".join(map(str, [*range(16, 16 * MOST, 16), LARGEST]))
SPECS = {
    "default": "default",
    "powers of two": "powers-of-two",
    "finest": "geometric:12",
    "one class": str(LARGEST),
    "two classes": f"112,{LARGEST}",
    "a list's beginning": "48,304",
    "128 classes": FULL,
    "fitted": SizeClasses.fit({24: 90, 56: 100, 64: 80, 400: 20, 3000: 4}, classes=4).process_spec(),
}

# Objects of all kinds and sizes, in threads; what every block was given is a class of the set, the smallest that does.
PROGRAM = """
import json
from bisect import bisect_left
expected = {expected}
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
c.malloc_usable_size.restype, c.malloc_usable_size.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
c.free.restype, c.free.argtypes = None, [ctypes.c_void_p]
for size in [*range(1, 1100), *(each + more for each in expected[:-1] for more in (0, 1)), 131072]:
    block = c.malloc(size)
    assert c.malloc_usable_size(block) == expected[bisect_left(expected, size)], size
    c.free(block)
def work(seed):
    kept = json.loads(json.dumps([{{"number": i, "text": str(i) * (i % 40)}} for i in range(seed * 300)]))
    grown = []
    for i in range(5000):
        grown.append(i)
    text = ""
    for i in range(300):
        text += "x" * i
    assert len(grown) == 5000 and len(text) == 44850 and kept[-1]["number"] == seed * 300 - 1
in_threads(lambda number: work(number + 1))
del c
gc.collect()
sound()
rows = [row.object_bytes for row in slabmalloc.stats().classes]
assert rows and set(rows) <= set(expected) and rows == sorted(rows)
slabmalloc.trim()
"""


@pytest.mark.parametrize("name", SPECS)
def test_a_program_on_other_classes(name: str) -> None:
    expected = size_classes(SPECS[name])
    check(PROGRAM.format(expected=expected), under=(f"--classes={SPECS[name]}", "--decay=0.1"))


def test_one_domain_in_process() -> None:
    program = "import slabmalloc; print([row.object_bytes for row in slabmalloc.stats().classes][:3])"
    command = [sys.executable, *RUN, "--in-process", "--classes=powers-of-two", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert set(json.loads(done.stdout)) <= {2**i for i in range(4, 18)}


# ---- the sets ----------------------------------------------------------------------------------------------------


def of_the_heap(classes: SizeClasses) -> tuple[int, ...]:
    return tuple(size for size in classes.sizes if size % 16 == 0 and size <= LARGEST)


def test_names_mean_what_they_mean_in_python() -> None:
    assert size_classes("default") == DEFAULT
    assert size_classes("powers-of-two") == of_the_heap(SizeClasses.powers_of_two())
    legal = 0
    for steps in range(1, 28):
        expected = of_the_heap(SizeClasses.geometric(steps))
        if len(expected) <= MOST:
            assert size_classes(f"geometric:{steps}") == expected
            legal += 1
        else:
            with pytest.raises(ValueError, match="makes more than 128 classes"):
                size_classes(f"geometric:{steps}")
    assert legal == 12


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(1, LARGEST // 16), min_size=1, max_size=150, unique=True))
def test_a_list_is_followed_by_the_default(granules: list[int]) -> None:
    sizes = [16 * number for number in sorted(granules)]
    expected = (*sizes, *(size for size in DEFAULT if size > sizes[-1]))
    spec = ",".join(map(str, sizes))
    if len(expected) <= MOST:
        assert size_classes(spec) == expected
    else:
        with pytest.raises(ValueError, match="makes more than 128 classes"):
            size_classes(spec)


@settings(derandomize=True, deadline=None)
@given(
    st.dictionaries(st.integers(1, 200_000), st.integers(1, 1000), min_size=1, max_size=200),
    st.integers(1, 140),
)
def test_what_fits_a_histogram_can_be_handed_to_a_run(histogram: dict[int, int], count: int) -> None:
    classes = SizeClasses.fit(histogram, classes=count)
    rounded = sorted({-(-size // 16) * 16 for size in classes.sizes if size <= LARGEST})
    try:
        spec = classes.process_spec()
    except ValueError:
        assert not rounded or len(rounded) + sum(size > rounded[-1] for size in DEFAULT) > MOST
        return
    sizes = size_classes(spec)
    assert list(sizes[: len(rounded)]) == rounded
    assert sizes[-1] == LARGEST


@pytest.mark.parametrize("spec", ["", "16,24", "geometric:x", "a" * 300, "16\udcff", "Ä", "32,16", "131088"])
def test_a_run_refuses_what_is_no_set(spec: str) -> None:
    done = subprocess.run(
        [sys.executable, *RUN, f"--classes={spec}", "-c", "print('never')"], capture_output=True, timeout=60
    )
    message = done.stderr.decode(errors="replace")
    assert (done.returncode, done.stdout) == (2, b"")
    assert message.startswith("slabmalloc run: --classes=")
    assert message.endswith(ALLOWED + "\n")
    assert message.count("\n") == 1


def test_the_library_says_so_and_takes_the_default() -> None:
    program = "sizes = [row.object_bytes for row in slabmalloc.stats().classes]; print(sizes)"
    done = run(program, SLABMALLOC_CLASSES="16,24")
    sizes, end = done.stdout.splitlines()
    assert end == "sound"
    assert set(json.loads(sizes)) <= set(DEFAULT)
    assert done.stderr == f"slabmalloc: SLABMALLOC_CLASSES is not used: '24' is not a multiple of 16 {ALLOWED}\n"
    assert set(json.loads(check(program, SLABMALLOC_CLASSES=""))) <= set(DEFAULT)
    assert set(json.loads(check(program, SLABMALLOC_CLASSES="powers-of-two"))) <= set(size_classes("powers-of-two"))
