# SPDX-License-Identifier: MIT
"""Programs in little address space, beside stock, under preload."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap

import pytest
from preloaded import check

from forms import needs_domains

# Blocks are chained, so that nothing large must grow meanwhile.
EXHAUST = """
import gc
def exhaust(size):
    held, count = None, 0
    try:
        while True:
            held = held, bytes(size)
            count += 1
    except MemoryError:
        while held is not None:
            held = held[0]
        gc.collect()
        return count * size
"""


def check_limited(program: str, mebibytes: int, *under: str) -> None:
    """The program ends well on stock and on slabmalloc."""
    program = EXHAUST + textwrap.dedent(program)
    limit = mebibytes << 20
    stock = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert (stock.returncode, stock.stderr) == (0, ""), "stock"
    check(program, under=under, limit=limit)


@needs_domains  # nor does it find room on stock
@pytest.mark.parametrize("mebibytes", [60, 80, 100, 140, 200, 300])
def test_little_address_space(mebibytes: int) -> None:
    """It starts, memory ends in MemoryError, and it goes on."""
    check_limited(
        """
        for size in (100, 3000, 20_000):
            first = exhaust(size)
            assert first > 5 << 20, first
            second = exhaust(size)
            assert second >= first * 3 // 4, (size, first, second)
        try:
            bytearray(1 << 40)
        except MemoryError:
            pass
        else:
            raise AssertionError
        import json
        assert json.loads("[1]") == [1]
        """,
        mebibytes,
    )


@pytest.mark.parametrize("mebibytes", [160, 300, 600])
def test_little_address_space_leaves_room_for_large_blocks(mebibytes: int) -> None:
    check_limited(f"assert len(bytes({mebibytes << 20} // 4)) == {mebibytes << 20} // 4", mebibytes)


@pytest.mark.parametrize("under", [[], ["--huge-pages"], ["--hardened"]])
@pytest.mark.parametrize("mebibytes", [200, 300])
def test_little_address_space_serves_large_blocks_after_small_ones(mebibytes: int, under: list[str]) -> None:
    check_limited(
        f"""
        first = exhaust(1000)
        assert first > {mebibytes << 20} // 4
        large = exhaust(1 << 20)
        assert large > {mebibytes << 20} // 4, large
        """,
        mebibytes,
        *under,
    )


@pytest.mark.parametrize("mebibytes", [100, 140, 270])
def test_little_address_space_leaves_room_for_threads_and_libraries(mebibytes: int) -> None:
    check_limited(
        """
        import sqlite3, threading
        threading.stack_size(1 << 20)
        thread = threading.Thread(target=lambda: [str(i) for i in range(1000)])
        thread.start()
        thread.join()
        sqlite3.connect(":memory:").execute("select 1")
        """,
        mebibytes,
    )


AT_LAST = """
import threading, time
def start_at_last():
    end = time.monotonic() + 10
    while True:
        thread = threading.Thread(target=lambda: [str(i) for i in range(1000)])
        try:
            thread.start()
        except RuntimeError:
            assert time.monotonic() < end
            time.sleep(0.01)
            [str(i) for i in range(1000)]
        else:
            return thread.join()
"""


def test_little_address_space_leaves_room_for_threads_after_objects() -> None:
    """Within the decay, or by a trim."""
    program = """
        import slabmalloc
        for wait in (start_at_last, slabmalloc.trim):
            assert exhaust(300) > 40 << 20
            wait()
            threading.Thread(target=lambda: [str(i) for i in range(1000)]).start()
        """
    check_limited(AT_LAST + textwrap.dedent(program), 140)


@needs_domains
def test_limit_that_the_program_sets_itself() -> None:
    program = """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30,) * 2)
        start_at_last()
        assert len([bytes(1000) for _ in range(100_000)]) == 100_000
        """
    check(AT_LAST + textwrap.dedent(program))


# ---- ulimit -d, like strict rules of overcommit: what can be written to is limited, addresses are not ----------------


def check_little_data(program: str, mebibytes: int) -> None:
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, ({mebibytes << 20},) * 2)\n"
    program = limit + EXHAUST + textwrap.dedent(program)
    stock = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (stock.returncode, stock.stderr) == (0, ""), "stock"
    check("sound()\n" + program)  # what it needs is imported while there is memory


@pytest.mark.parametrize("size", [100, 3000, 20_000, 1_000_000])
def test_little_data(size: int) -> None:
    check_little_data(
        f"""
        first = exhaust({size})
        assert first > 20 << 20, first
        second = exhaust({size})
        assert second >= first * 3 // 4, (first, second)
        """,
        140,
    )


@pytest.mark.parametrize("size", [100, 3000])
def test_little_data_serves_large_blocks_after_small_ones(size: int) -> None:
    check_little_data(f"assert exhaust({size}) > 20 << 20\nassert exhaust(1_000_000) > 20 << 20", 140)


@needs_domains
def test_little_data_from_the_start() -> None:
    """Tables, which are data too, are as small as what they are for."""
    program = EXHAUST + "mebibytes = {size: exhaust(size) >> 20 for size in (1 << 20, 3000)}\n"
    check(program + "assert min(mebibytes.values()) >= 40, mebibytes", data=60 << 20)
