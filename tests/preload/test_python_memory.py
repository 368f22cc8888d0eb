# SPDX-License-Identifier: MIT
"""What programs ask for under preload: NumPy, ctypes, extensions; and what goes back."""

from __future__ import annotations

import pytest
from preloaded import check

from forms import needs_domains


def test_numpy_arrays_in_threads() -> None:
    pytest.importorskip("numpy")
    check("""
        import numpy as np
        def work(seed):
            random = np.random.default_rng(seed)
            held = []
            for step in range(1500):
                shape = int(random.integers(1, 1 << int(random.integers(1, 18))))
                held.append((step, np.full(shape, step, dtype=np.int32)))
                if len(held) > 40:
                    number, array = held.pop(int(random.integers(len(held))))
                    assert (array == number).all()
            assert all((array == number).all() for number, array in held)
        in_threads(work)
        gc.collect()
        def served():  # from 2.5 on NumPy asks raw
            rows = slabmalloc.stats().domains
            return sum(rows[name].served_blocks for name in ("raw", "malloc"))
        before = served()
        kept = [np.empty(100 << 10) for _ in range(10)]
        assert served() >= before + 10
        assert slabmalloc.stats().large_bytes >= 10 * 800 << 10
        del kept
    """)


def test_numpy_temporaries() -> None:
    pytest.importorskip("numpy")
    check("""
        import numpy as np
        a = np.arange(1 << 20, dtype=float)
        expected = float(((a * 2 + 1) ** 2).sum())
        def work(_):
            for _ in range(8):
                assert float(((a * 2 + 1) ** 2).sum()) == expected
        in_threads(work)
        del a
        gc.collect()
        slabmalloc.trim()
        assert slabmalloc.stats().large_bytes < 4 << 20
        assert slabmalloc.stats().large_reused > 15
    """)


def test_numpy_zeros_are_zero_after_dirty_frees() -> None:
    pytest.importorskip("numpy")
    check("""
        import numpy as np
        for exponent in range(3, 25):
            for size in (1 << exponent, 3 << exponent - 1, (1 << exponent) + 8):
                for _ in range(3):
                    dirty = [np.full(size, 0xA5, dtype=np.uint8) for _ in range(4 if exponent < 20 else 2)]
                    del dirty
                    clean = [np.zeros(size, dtype=np.uint8) for _ in range(4 if exponent < 20 else 2)]
                    assert not any(array.any() for array in clean), size
                    for array in clean:
                        array += 1
                    del clean
    """)


def test_numpy_arrays_that_are_resized() -> None:
    """From 4 MiB on NumPy asks for huge pages for all but an array's first OS page: two mappings, which don't grow."""
    pytest.importorskip("numpy")
    check("""
        import numpy as np
        for mebibytes in (1, 4, 8, 64):
            size = mebibytes << 20
            for make in (np.empty, np.zeros):
                for more in (size + 1, 2 * size):
                    array = make(size, dtype=np.uint8)
                    array[:] = 7
                    array.resize(more, refcheck=False)
                    assert (array[:size] == 7).all() and not array[size:].any()
                    array.resize(size // 3, refcheck=False)
                    assert (array == 7).all()
                    array.resize(10, refcheck=False)
                    assert (array == 7).all()
    """)


def test_ctypes_and_the_c_library() -> None:
    check("""
        c = ctypes.CDLL(None, use_errno=True)
        c.malloc.restype = c.calloc.restype = c.realloc.restype = c.strdup.restype = ctypes.c_void_p
        c.malloc.argtypes = [ctypes.c_size_t]
        c.calloc.argtypes = [ctypes.c_size_t] * 2
        c.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        c.free.argtypes, c.free.restype = [ctypes.c_void_p], None
        before = slabmalloc.stats().domains["malloc"].served_blocks
        for size in (0, 1, 100, 5000, 100_000, 1 << 20):
            block = c.malloc(size)
            ctypes.memset(block, 0xA5, size)
            c.free(block)
            block = c.calloc(1, size)
            assert ctypes.string_at(block, size) == bytes(size)
            ctypes.memset(block, 7, size)
            block = c.realloc(block, 2 * size + 1)
            assert ctypes.string_at(block, size) == bytes([7]) * size
            c.free(block)
        text = c.strdup(b"some text")
        assert ctypes.string_at(text) == b"some text"
        c.free(text)
        ctypes.set_errno(0)
        assert c.malloc(2**63) is None and ctypes.get_errno() == 12
        assert slabmalloc.stats().domains["malloc"].served_blocks >= before + 13
    """)


def test_sqlite() -> None:
    pytest.importorskip("sqlite3")
    check("""
        import sqlite3
        def work(seed):
            with sqlite3.connect(":memory:") as base:
                base.execute("create table t (number integer primary key, text)")
                base.executemany("insert into t values (?, ?)", ((i, str(i) * (i % 50)) for i in range(5000)))
                base.execute("create index i on t (text)")
                base.execute("delete from t where number % 3 = 0")
                rows = base.execute("select number, text from t order by text").fetchall()
                assert len(rows) == 3333 and all(text == str(number) * (number % 50) for number, text in rows)
            base.close()
        in_threads(work)
    """)


def test_other_extensions_of_the_standard_library() -> None:
    check("""
        import bz2, decimal, hashlib, json, lzma, pickle, re, struct, zlib
        from xml.etree import ElementTree
        data = json.dumps([{"number": i, "text": str(i) * 9} for i in range(3000)]).encode()
        def work(_):
            for module in (bz2, lzma, zlib):
                assert module.decompress(module.compress(data)) == data
            root = ElementTree.fromstring("<a>" + "<b c='d'>e</b>" * 5000 + "</a>")
            assert len(root) == 5000 and root[4999].text == "e"
            with decimal.localcontext() as context:
                context.prec = 5000
                assert (decimal.Decimal(2).sqrt() ** 2 - 2).copy_abs() < decimal.Decimal("1e-4990")
            assert pickle.loads(pickle.dumps(json.loads(data))) == json.loads(data)
            assert len(hashlib.pbkdf2_hmac("sha256", data, b"salt", 10)) == 32
        in_threads(work)
    """)


@needs_domains
def test_memory_goes_back_when_it_has_rested() -> None:
    check(
        """
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        before = resident()
        kept = [str(i) * 10 for i in range(300_000)] + [bytearray(1 << 20) for _ in range(20)]
        peak = resident()
        assert peak > before + (50 << 20)
        del kept
        end = time.monotonic() + 20
        while resident() > before + (peak - before) // 4 and time.monotonic() < end:
            time.sleep(0.02)
            [object() for _ in range(2000)]
        assert resident() <= before + (peak - before) // 4, (before, peak, resident())
        """,
        under=("--decay=0.2",),
    )


def test_threads_that_ended_leave_nothing_behind() -> None:
    check("""
        c = ctypes.CDLL(None)
        c.malloc.restype, c.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        c.free(c.malloc(0))  # what has no bytes has a heap of its own, from the first on
        COUNT, HEAPS = 200, slabmalloc.stats().heaps
        meets = threading.Barrier(COUNT + 1)
        def work():
            held = [ctypes.create_string_buffer(2000) for _ in range(20)]  # of `raw` and `malloc`, with Python's own
            meets.wait()
            meets.wait()
        def ended():
            threads = [threading.Thread(target=work) for _ in range(COUNT)]
            for thread in threads:
                thread.start()
            meets.wait()
            living = slabmalloc.stats()
            meets.wait()
            for thread in threads:
                thread.join()
            return living
        def trimmed(most_heaps):  # threads may be joined before their destructors have run
            end = time.monotonic() + 20
            while slabmalloc.stats().heaps > most_heaps and time.monotonic() < end:
                slabmalloc.trim()
            return slabmalloc.stats()
        ended()
        before = trimmed(HEAPS)
        living = ended()
        assert living.heaps >= HEAPS + COUNT, living
        after = trimmed(HEAPS)
        assert before.heaps <= HEAPS and after.heaps <= HEAPS, (before, after)
        assert after.bookkeeping_bytes <= before.bookkeeping_bytes + COUNT * 512, (before, after)
        assert after.domains["malloc"].served_blocks >= living.domains["malloc"].served_blocks, (living, after)
    """)
