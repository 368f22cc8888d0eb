# SPDX-License-Identifier: MIT
"""CPython's domains on slabmalloc: what the hooks do, seen from Python and through CPython's own allocation functions.

An installation lasts until the process ends, so each test runs in a process of its own.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from forms import needs_domains
from installed import check

pytestmark = needs_domains


def test_before_installation_everything_is_zero() -> None:
    check("""
        import dataclasses
        nothing = dataclasses.replace(stats(), resident_bytes=None, resident_huge_bytes=None)
        assert nothing == slabmalloc.process.ProcessStats() and slabmalloc.trim() == 0 and _pymem.audit() is None
    """)


def test_resident_bytes_are_the_kernels_account() -> None:
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("no /proc/PID/smaps_rollup here")
    check("""
        import json, resource
        def pss():
            with open("/proc/self/smaps_rollup") as file:
                return next(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))
        def is_close(number):
            return abs(number - pss()) < 4 << 20
        assert is_close(stats().resident_bytes)
        slabmalloc.install()
        before = stats().resident_bytes
        held = bytearray(b"x") * (64 << 20)
        assert is_close(stats().resident_bytes) and stats().resident_bytes > before + (60 << 20)
        assert is_close(json.loads(slabmalloc.process.summary(1, as_json=True))["resident_bytes"])
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))  # no file can be opened any more
        assert stats().resident_bytes is None and stats().domains
        assert json.loads(slabmalloc.process.summary(1, as_json=True))["resident_bytes"] is None
        assert "PSS" not in slabmalloc.process.summary(1)
    """)


def test_the_summary_has_the_fields_of_the_statistics() -> None:
    check("""
        import json
        slabmalloc.install()
        record, fields = json.loads(slabmalloc.process.summary(1, as_json=True)), stats().to_dict()
        assert record.keys() - {"wall_seconds", "python", "form"} == fields.keys()
        assert record["classes"][0].keys() == fields["classes"][0].keys()
        assert record["domains"]["obj"].keys() == fields["domains"]["obj"].keys()
    """)


def test_who_serves_the_data_of_numpy_is_not_asked_of_a_pair_of_functions() -> None:
    from slabmalloc.process import _pymem

    with pytest.raises(ValueError, match="NumPy's data"):
        _pymem.server("numpy")


def test_unknown_domains_are_named() -> None:
    check("""
        for domain in ("malloc", "objects", ""):
            try:
                slabmalloc.install((domain,))
            except ValueError as error:
                assert repr(domain) in str(error) and "obj, mem, raw, numpy" in str(error)
            else:
                raise AssertionError(domain)
        assert not stats().domains
    """)


@pytest.mark.parametrize("domain", ["obj", "mem", "raw"])
def test_one_domain_alone(domain: str) -> None:
    check(f"""
        slabmalloc.install("{domain}")
        slabmalloc.install(["{domain}"])
        assert list(stats().domains) == ["{domain}"]
        before = stats().domains["{domain}"].served_blocks
        block = malloc["{domain}"](100)
        assert stats().domains["{domain}"].served_blocks > before
        free["{domain}"](block)
        is_sound()
    """)


def test_blocks_are_counted_and_conserved() -> None:
    check("""
        slabmalloc.install()
        kept = [bytes(i % 3000) for i in range(50_000)]
        row = stats().domains["obj"]
        assert row.served_blocks >= 49_000 and row.served_bytes >= 49_000 * 1_000
        held = stats()
        assert held.live_bytes <= held.mapped_bytes <= held.peak_mapped_bytes <= held.reserved_bytes
        is_sound()
        del kept[::2]
        is_sound()
        del kept
        gc.collect()
        assert stats().live_bytes < held.live_bytes // 10
        is_sound()
    """)


@pytest.mark.parametrize("domain", ["obj", "mem", "raw"])
def test_no_bytes_are_still_a_block(domain: str) -> None:
    check(f"""
        slabmalloc.install()
        blocks = [malloc["{domain}"](0) for _ in range(1000)] + [calloc["{domain}"](0, 5) for _ in range(1000)]
        assert all(blocks) and len(set(blocks)) == 2000 and not any(block % 16 for block in blocks)
        blocks = [realloc["{domain}"](block, 0) for block in blocks]
        assert all(blocks) and len(set(blocks)) == 2000
        for block in blocks:
            free["{domain}"](block)
        free["{domain}"](None)
        is_sound()
    """)


@pytest.mark.parametrize("domain", ["obj", "mem", "raw"])
def test_calloc_clears_what_was_used_before(domain: str) -> None:
    check(f"""
        slabmalloc.install()
        for bytes_each in (1, 16, 100, 1000, 8192, 8193, 100_000):
            blocks = [malloc["{domain}"](bytes_each) for _ in range(50)]
            for block in blocks:
                ctypes.memset(block, 0xFF, bytes_each)
            for block in blocks:
                free["{domain}"](block)
            for _ in range(50):
                assert ctypes.string_at(calloc["{domain}"](1, bytes_each), bytes_each) == bytes(bytes_each)
        assert calloc["{domain}"](2**62, 4) is None and calloc["{domain}"](2**33, 2**33) is None
        is_sound()
    """)


@pytest.mark.parametrize("domain", ["obj", "mem", "raw"])
def test_realloc_keeps_contents_within_and_across_the_border(domain: str) -> None:
    check(f"""
        import random
        slabmalloc.install()
        random.seed(20)
        print(random.getstate()[1][0])
        sizes = [1, 15, 16, 17, 100, 129, 500, 5000, 8191, 8192, 8193, 20_000, 300_000]
        for _ in range(2000):
            old, new = random.choice(sizes), random.choice(sizes)
            content = random.randbytes(old)
            block = malloc["{domain}"](old)
            ctypes.memmove(block, content, old)
            block = realloc["{domain}"](block, new)
            assert ctypes.string_at(block, min(old, new)) == content[: min(old, new)]
            free["{domain}"](block)
        is_sound()
    """)


def test_realloc_within_the_class_stays_in_place() -> None:
    check("""
        slabmalloc.install()
        block = malloc["mem"](113)
        before = stats().domains["mem"].resized_blocks
        assert all(realloc["mem"](block, size) == block for size in (128, 113, 120))
        assert stats().domains["mem"].resized_blocks >= before + 3
        assert realloc["mem"](block, 8) != block
        is_sound()
    """)


def test_older_blocks_stay_with_their_maker() -> None:
    check("""
        older = {domain: [malloc[domain](n) for n in (1, 100, 512, 5000, 100_000)] for domain in malloc}
        texts = [str(i) * 20 for i in range(1000)]
        slabmalloc.install()
        for domain, blocks in older.items():
            freed = stats().domains[domain].freed_blocks
            for block in blocks:
                ctypes.memset(block, 7, 1)
                moved = realloc[domain](block, 300)
                assert ctypes.string_at(moved, 1) == b"\\7"
                free[domain](moved)
        del texts
        is_sound()
    """)


def test_blocks_of_every_size_are_served() -> None:
    check("""
        slabmalloc.install()
        for size in (0, 1, 512, 8192, 8193, 131072, 131073, 1 << 20, 100 << 20):
            before = stats()
            block = malloc["obj"](size)
            after = stats()
            rows = before.domains["obj"], after.domains["obj"]
            assert rows[1].passed_blocks == rows[0].passed_blocks, size
            assert after.live_bytes >= before.live_bytes + size, size
            free["obj"](block)
            is_sound()
        grown = bytearray()
        for count in range(40):  # from one kind of block to the next, and back
            grown += bytes([count]) * (1 << 19)
        assert all(grown[count << 19] == grown[(count + 1 << 19) - 1] == count for count in range(40))
        del grown[1000:]
        assert bytes(grown) == bytes(1000)
        is_sound()
    """)


def test_memory_is_given_back_by_itself() -> None:
    check("""
        import time
        slabmalloc.install()
        records = [{"number": i, "text": str(i)} for i in range(200_000)]
        peak = stats().mapped_bytes
        del records
        gc.collect()
        end = time.monotonic() + 20  # a second and a half do
        while stats().given_back_bytes <= peak // 2 and time.monotonic() < end:
            time.sleep(0.05)
            kept = [object() for _ in range(1000)]
        assert stats().given_back_bytes > peak // 2
        rest = stats().resting_bytes
        assert slabmalloc.trim() >= rest and stats().resting_bytes == 0
        is_sound()
    """)


def test_tracemalloc_must_not_be_under_us() -> None:
    check(
        """
        try:
            slabmalloc.install()
        except RuntimeError as error:
            assert "tracemalloc.stop()" in str(error)
        else:
            raise AssertionError
        import tracemalloc
        tracemalloc.stop()
        slabmalloc.install()
        tracemalloc.start()
        slabmalloc.install()
        kept = [bytes(100) for _ in range(1000)]
        assert tracemalloc.get_traced_memory()[0] > 100_000
        tracemalloc.stop()
        del kept
        is_sound()
        """,
        "-X",
        "tracemalloc=3",
    )


@pytest.mark.parametrize("allocator", ["malloc", "debug", "malloc_debug", "pymalloc"])
def test_whatever_was_there_before(allocator: str) -> None:
    check(
        """
        slabmalloc.install()
        kept = [bytes(n) for n in range(20_000)]
        del kept
        is_sound()
        """,
        env={**os.environ, "PYTHONMALLOC": allocator},
    )


def test_threads_share_the_heap() -> None:
    check("""
        slabmalloc.install()
        def churn():
            held = []
            for i in range(100_000):
                held.append(bytes(i % 700))
                if len(held) > 500:
                    del held[::3]
        threads = [threading.Thread(target=churn) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        is_sound()
    """)


def test_a_forked_child_has_its_own_copy() -> None:
    check("""
        slabmalloc.install()
        kept = [bytes(i % 500) for i in range(20_000)]
        child = os.fork()
        if child == 0:
            del kept
            more = [bytes(i % 900) for i in range(20_000)]
            is_sound()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        is_sound()
    """)


def test_little_address_space() -> None:
    limit = 1 << 30
    check(
        """
        slabmalloc.install()
        reserved = stats().reserved_bytes
        assert reserved < 1 << 30, reserved
        kept = [bytes(4000) for _ in range(20_000)]
        is_sound()
        """,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )


def test_a_range_that_is_used_up_is_followed_by_another() -> None:
    limit = 500 << 20
    check(
        """
        slabmalloc.install()
        heap_bytes = stats().reserved_bytes
        kept = [bytes(4000) for _ in range(heap_bytes // 4096 + 2000)]
        assert stats().reserved_bytes > heap_bytes
        is_sound()
        del kept[::2]
        is_sound()
        """,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
