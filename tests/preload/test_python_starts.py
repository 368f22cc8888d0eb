# SPDX-License-Identifier: MIT
"""Signals, deep recursion, and the ways to start a program, under preload."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from preloaded import PRELUDE, RUN, SOUND, check, run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGABRT])
def test_a_signal_ends_it(number: signal.Signals) -> None:
    done = run(f"in_threads(lambda number: bytearray(1 << 20))\nos.kill(os.getpid(), {int(number)})")
    assert (done.returncode, done.stdout, done.stderr) == (-number, "", "")


def test_an_interrupt_is_an_exception() -> None:
    # In a function: a jump at the end of a loop may not be covered by the `try` around it.
    check("""
        import signal
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        def work():
            held = []
            while True:
                held.append(bytearray(len(held) * 13 % 300_000))
                if len(held) > 200:
                    del held[::2]
        interrupts = 0
        for _ in range(20):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                work()
            except KeyboardInterrupt:
                interrupts += 1
        assert interrupts == 20, interrupts
    """)


def test_deep_recursion() -> None:
    check(
        """
        def deeper(n): return [deeper(n + 1), n]
        for limit in (1000, 5000):
            sys.setrecursionlimit(limit)
            try:
                deeper(0)
            except RecursionError:
                continue
            raise AssertionError
        nested = []
        for _ in range(200_000):
            nested = [nested]
        del nested
        def in_thread():
            try:
                deeper(0)
            except RecursionError:
                return
            raise AssertionError
        in_threads(lambda number: in_thread())
        """
    )


def start(*arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, input=stdin, cwd=cwd, capture_output=True, text=True, timeout=60)


def test_inspection_after_the_end() -> None:
    done = start(
        "-i", "-q", *RUN, "-c", PRELUDE + "x = [bytes(100)] * 3", stdin="print(len(x))\nsound()\nprint('sound')"
    )
    assert (done.returncode, done.stdout) == (0, "3\nsound\n")
    done = start("-i", "-q", *RUN, "-c", "x = 7; 1 / 0", stdin="print(x)\n")
    assert done.stdout == "7\n"
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("words", [["-"], ["-", "x", "--quiet"]])
def test_programs_on_standard_input(words: list[str]) -> None:
    done = start(*RUN, *words, stdin=f"{PRELUDE}print(sys.argv){SOUND}")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{words!r}\nsound\n", "")


def test_zip_applications(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", f"{PRELUDE}\nimport part\nprint(part.name, sys.argv[1:]){SOUND}")
        archive.writestr("part.py", "name = __name__")
    done = start(*RUN, "app.pyz", "-m", "x", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "part ['-m', 'x']\nsound\n", "")


def test_modules_and_scripts(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(f"{PRELUDE}\nprint(__name__, sys.argv[1:]){SOUND}")
    for words in (["app.py"], ["-m", "app"]):
        done = start(*RUN, *words, "--json", cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "__main__ ['--json']\nsound\n", "")


def test_the_program_replaces_itself() -> None:
    done = run(f"os.execl(sys.executable, sys.executable, '-c', {PRELUDE + SOUND!r})")
    assert (done.returncode, done.stdout, done.stderr) == (0, "sound\n", "")


def test_no_children_leaves_other_libraries_preloaded(tmp_path: Path) -> None:
    mapped = Path("/proc/self/maps").read_text().splitlines()
    libm = next((Path(line.split()[-1]) for line in mapped if "/libm.so" in line), None)
    if libm is None:
        pytest.skip("no libm here to preload beside ours")
    folder = tmp_path / "libslabmalloc-others"
    folder.mkdir()
    other = str(shutil.copy(libm, folder / "other.so"))
    program = "print(os.environ.get('LD_PRELOAD'))"
    assert check(program, under=("--no-children",), LD_PRELOAD=other) == f"{other}\n"


def test_a_run_within_a_run() -> None:
    loud = [word for word in RUN if word != "--quiet"] + ["--json"]
    done = start(*loud, *RUN, "-c", PRELUDE + SOUND)
    assert (done.returncode, done.stdout, done.stderr) == (0, "sound\n", "")
    done = start(*RUN, *loud, "-c", PRELUDE + SOUND)
    assert (done.returncode, done.stdout, done.stderr.count('"domains"')) == (0, "sound\n", 1)
