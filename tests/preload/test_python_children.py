# SPDX-License-Identifier: MIT
"""Forked and started children, and other interpreters, under preload."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from preloaded import LIBRARY, PRELUDE, RUN, check

# ---- children ---------------------------------------------------------------------------------------------------


def test_frozen_objects_in_forked_children() -> None:
    check("""
        data = {i: (str(i), [i] * (i % 20), bytearray(i % 3000)) for i in range(20_000)}
        large = bytearray(b"x") * (3 << 20)
        def whole():
            return large.count(b"x") == 3 << 20 and all(
                text == str(i) and numbers == [i] * (i % 20) and len(array) == i % 3000
                for i, (text, numbers, array) in data.items())
        gc.collect()
        gc.freeze()
        def child(depth):
            assert whole()
            for i in range(0, 20_000, 2):
                del data[i]
            more = [bytearray(i % 2000) for i in range(20_000)]
            gc.collect()
            assert whole()
            if depth:
                grandchild = os.fork()
                if grandchild == 0:
                    try:
                        data.update({i: (str(i), [i] * (i % 20), bytearray(i % 3000)) for i in range(0, 20_000, 2)})
                        child(0)
                    except BaseException:
                        sys.excepthook(*sys.exc_info())
                    os._exit(1)
                wait_for(grandchild)
            sound()
            os._exit(0)
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                try:
                    child(1)
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                os._exit(1)
            wait_for(pid)
        assert len(data) == 20_000 and whole()
    """)


PRIVATE_PAGES = """
import gc, os
def mixed(number):
    return [(str(number),), [number], bytes(number % 99), number * 0.5][number % 4]
def private():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Private_Dirty:"))
objects, place = [mixed(number) for number in range(800_000)], [None] * 10_000
gc.collect()
gc.freeze()
private()
if os.fork() == 0:
    for number in range(len(place)):
        place[number] = mixed(number)
    print(private(), flush=True)
    for number in range(len(place)):
        place[number] = None
    print(private(), flush=True)
    os._exit(0)
assert os.wait()[1] == 0
"""


def test_private_pages_of_a_forked_child() -> None:
    """Of a heap of 100 MiB a little work copies as much as on stock, and a few OS pages of tables."""
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("no /proc/PID/smaps_rollup here")
    kib = []
    for words in ([], RUN):
        done = subprocess.run(
            [sys.executable, *words, "-c", PRIVATE_PAGES], capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, done.stderr) == (0, "")
        kib.append([int(number) for number in done.stdout.split()])
    stock, ours = kib
    few = 64 * os.sysconf("SC_PAGESIZE") // 1024
    assert 1000 < stock[0] < 4000
    assert ours[0] <= stock[0] + few, (ours, stock)
    assert ours[1] <= stock[1] + few, (ours, stock)


def test_fork_with_threads_at_work() -> None:
    check(
        """
        stop = threading.Event()
        blocks = [bytes(1000) for _ in range(1000)]
        def churn():
            held = []
            while not stop.is_set():
                held.append(bytearray(len(held) * 37 % 200_000))
                if len(held) > 300:
                    del held[::2]
        threads = [threading.Thread(target=churn) for _ in range(4)]
        for thread in threads: thread.start()
        for _ in range(40):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    del blocks[::2]
                    more = [bytearray(i * 11) for i in range(2000)]
                    late = threading.Thread(target=lambda: more.append([str(i) for i in range(1000)]))
                    late.start()
                    late.join()
                    assert len(more) == 2001 and all(block == bytes(1000) for block in blocks)
                    assert _pymem.audit() is None, _pymem.audit()
                    code = 0
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                os._exit(code)
            wait_for(child)
        stop.set()
        for thread in threads: thread.join()
        """,
        "-W",
        "ignore::DeprecationWarning",  # of fork with threads, since 3.12
    )


POOL = """
import multiprocessing, sys
import slabmalloc
from slabmalloc.process import _pymem

def work(number):
    held = [str(i) * (i % 20) for i in range(5000)] + [bytearray(300_000)]
    form = _pymem.form()
    if form == "preload":
        assert _pymem.audit() is None and slabmalloc.stats().conserved
    return number * number, len(held), form

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(2) as pool:
        results = pool.map(work, range(20))
    assert [square for square, _, _ in results] == [i * i for i in range(20)]
    assert {count for _, count, _ in results} == {5001}
    queue = context.Queue()
    process = context.Process(target=queue.put, args=["word" * 100_000])
    process.start()
    assert queue.get() == "word" * 100_000
    process.join()
    assert process.exitcode == 0
    assert _pymem.form() == "preload" and _pymem.audit() is None and slabmalloc.stats().conserved
    print({form for _, _, form in results})
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("children", ["on slabmalloc", "without"])
def test_multiprocessing(method: str, children: str, tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    options = ["--no-children"] if children == "without" else []
    done = subprocess.run(
        [sys.executable, *RUN, *options, "pool.py", method], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    # A forked child has its parent's library, whatever is said of programs that are started.
    form = "in process" if options and method != "fork" else "preload"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{{{form!r}}}\n", "")


def test_concurrent_futures(tmp_path: Path) -> None:
    program = tmp_path / "futures.py"
    program.write_text(
        PRELUDE
        + textwrap.dedent("""
            from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

            def work(number):
                return sum(len(str(i) * 3) for i in range(number))

            if __name__ == "__main__":
                expected = [work(number) for number in range(0, 3000, 100)]
                for kind in (ThreadPoolExecutor, ProcessPoolExecutor):
                    with kind(3) as executor:
                        assert list(executor.map(work, range(0, 3000, 100))) == expected
                gc.collect()
                sound()
                print("sound")
            """)
    )
    done = subprocess.run([sys.executable, *RUN, str(program)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "sound\n", "")


@pytest.mark.parametrize("options", [(), ("--no-children",)], ids=["on slabmalloc", "without"])
def test_asyncio_and_its_subprocesses(options: tuple[str, ...]) -> None:
    output = check(
        """
        import asyncio
        code = "from slabmalloc.process import _pymem; import sys; print(_pymem.form(), len(sys.stdin.read()))"
        async def one(number):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
            out, _ = await process.communicate(b"x" * 300_000)
            assert process.returncode == 0
            return out.decode()
        async def main():
            shell = await asyncio.create_subprocess_shell("exit 7")
            assert await shell.wait() == 7
            await asyncio.gather(*(asyncio.to_thread(lambda: [str(i) for i in range(5000)]) for _ in range(50)))
            return await asyncio.gather(*map(one, range(4)))
        print(*sorted(set(asyncio.run(main()))), end="")
        """,
        under=options,
    )
    assert output == ("in process" if options else "preload") + " 300000\n"


# ---- other interpreters -----------------------------------------------------------------------------------------

INTERPRETERS = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
run_in = getattr(interpreters, "exec", None) or interpreters.run_string
code = '''
held = []
for i in range(30_000):
    held.append(bytes(i % 700) + str(i).encode())
    if len(held) > 500:
        del held[::3]
held.append(bytearray(1 << 20))
import json
assert json.loads(json.dumps([1.5] * 100)) == [1.5] * 100
'''
def use_one(number):
    for _ in range(3):
        one = interpreters.create()
        assert run_in(one, code) is None
        interpreters.destroy(one)
"""


def test_sub_interpreters_one_after_another() -> None:
    check(INTERPRETERS + "use_one(0)\ngc.collect()", errors=None)


def test_sub_interpreters_in_threads() -> None:
    check(INTERPRETERS + "in_threads(use_one, 3)\ngc.collect()", errors=None)


def other_pythons() -> dict[str, str]:
    """Interpreters with a lock of their own for each sub-interpreter, by release."""
    found = {}
    for release in ("3.12", "3.13"):
        roots = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))]
        paths = [path for root in roots for path in sorted(root.glob(f"versions/{release}.*/bin/python{release}"))]
        python = str(paths[-1]) if paths else shutil.which(f"python{release}")
        if python is not None:
            found[release] = python
    return found


# No extension of ours is there for them: the library alone, which is the same for every release.
WITHOUT_EXTENSION = """
import sys, threading
def in_threads(work, count):
    threads = [threading.Thread(target=work, args=[number]) for number in range(count)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""


@pytest.mark.parametrize("release", ["3.12", "3.13"])
def test_sub_interpreters_with_a_lock_of_their_own(release: str) -> None:
    python = other_pythons().get(release)
    if python is None:
        pytest.skip(f"no Python {release} here")
    program = WITHOUT_EXTENSION + INTERPRETERS + "use_one(0)\nin_threads(use_one, 3)\nprint('well')"
    done = subprocess.run(
        [python, "-c", program],
        env={"PATH": os.environ["PATH"], "LD_PRELOAD": LIBRARY},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", "")
