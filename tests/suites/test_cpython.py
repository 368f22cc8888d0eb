# SPDX-License-Identifier: MIT
"""CPython's own tests on slabmalloc: each file on stock and under ``slabmalloc run``, by the same interpreter.

A test that passes on stock must pass on slabmalloc. What fails on stock is not held against either, and a file that
this interpreter has not (distributions leave them out, releases rename them) is skipped.
"""

from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("slabmalloc.process._pymem", reason="needs the native extension")

SECONDS = 1200
FILES = ["gc", "dict", "list", "set", "unicode", "str", "bytes", "memoryview", "capi", "threading", "json", "pickle"]

_FAILED = re.compile(r"^(?:FAIL|ERROR): (.+)$", re.MULTILINE)
_TOTAL = re.compile(r"^Total tests: run=([\d,]+)", re.MULTILINE)
_UNITTEST_TOTAL = re.compile(r"^Ran (\d+) tests? in", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """How regrtest ended for one file."""

    status: int
    failed: frozenset[str]
    count: int
    log: str


def regrtest(name: str, folder: Path, *under: str) -> Result:
    folder.mkdir()
    command = [sys.executable, *under, "-m", "test", "-v", name]
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS,
        # Where the tests run in the background SIGINT is ignored, and then CPython's tests of interrupts hang.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = done.stdout.decode(errors="replace")
    return parse(log, done.returncode)


def parse(log: str, status: int) -> Result:
    """What regrtest's output says: the tests that failed, and how many were run (before 3.12 only unittest tells)."""
    total = _TOTAL.search(log)
    numbers = [total[1].replace(",", "")] if total else _UNITTEST_TOTAL.findall(log)
    return Result(status, frozenset(_FAILED.findall(log)), sum(map(int, numbers)), log)


def test_parse() -> None:
    log = "FAIL: test_a (test.test_x.T.test_a)\n...\nRan 5 tests in 0.1s\nTotal tests: run=1,205 failures=1\n"
    result = parse(log, 2)
    assert result.failed == {"test_a (test.test_x.T.test_a)"}
    assert result.count == 1205
    assert parse("Ran 5 tests in 0.1s\nRan 1 test in 0.1s\n", 0).count == 6


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_what_passes_on_stock_passes_on_slabmalloc(file: str, tmp_path: Path) -> None:
    name = f"test_{file}"
    if importlib.util.find_spec("test") is None or importlib.util.find_spec(f"test.{name}") is None:
        pytest.skip(f"this interpreter comes without {name}")
    stock = regrtest(name, tmp_path / "stock")
    summary = tmp_path / "summary.txt"
    ours = regrtest(name, tmp_path / "ours", "-m", "slabmalloc", "run", f"--summary={summary}")
    print(f"{name}: {stock.count} tests, stock fails {len(stock.failed)}, slabmalloc {len(ours.failed)}")
    print(summary.read_text() if summary.exists() else "no summary: the process was ended")
    assert ours.failed <= stock.failed, ours.log[-5000:]
    assert ours.count == stock.count > 0
    assert ours.status == stock.status, ours.log[-5000:]
