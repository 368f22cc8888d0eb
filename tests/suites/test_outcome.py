# SPDX-License-Identifier: MIT
"""What the comparison of suites reads from logs, and what it calls a difference."""

from __future__ import annotations

import pytest
from outcome import TIMEOUT, Outcome, differences, parse, steady, unsteady

REGRTEST = """\
test_a (test.test_x.T.test_a) ... FAIL
FAIL: test_a (test.test_x.T.test_a)
ERROR: setUpClass (test.test_x.U)
Ran 5 tests in 0.1s

FAILED (failures=1, skipped=2)
"""
PYTEST = """\
..F [100%]
=========================== short test summary info ============================
FAILED a/test_x.py::test_a[1 - 2] - AssertionError: 1 - 2
ERROR a/test_y.py
1 failed, 2 passed, 3 skipped, 1 xfailed, 4 warnings, 1 error, 84 subtests passed in 1.23s
"""
PASSED = Outcome(0, 5, 1, ())


def test_regrtest_before_it_counts() -> None:
    assert parse(REGRTEST, 2) == Outcome(2, 5, 2, ("setUpClass (test.test_x.U)", "test_a (test.test_x.T.test_a)"))


def test_regrtest_that_counts() -> None:
    outcome = parse(REGRTEST + "Total tests: run=1,205 failures=1 skipped=1,002\n", 2)
    assert (outcome.run, outcome.skipped) == (1205, 1002)


def test_pytest() -> None:
    assert parse(PYTEST, 1) == Outcome(1, 4, 3, ("a/test_x.py::test_a[1 - 2]", "a/test_y.py"))


def test_pytest_under_a_heading() -> None:
    assert parse("====== 12 passed, 1 deselected in 2.00s (0:00:02) ======\n", 0) == Outcome(0, 12, 0, ())


@pytest.mark.parametrize("name", ["test_gdb", "test.test_gdb.test_misc"])
def test_a_file_that_is_skipped_as_a_whole(name: str) -> None:
    assert parse(f"{name} skipped -- test_gdb needs gdb\n", 0) == Outcome(0, 0, 1, ())


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (PASSED, "passed"),
        (Outcome(2, 5, 0, ("a",)), "failed"),
        (Outcome(2, 5, 0, ()), "failed"),
        (Outcome(0, 0, 1, ()), "skipped"),
        (Outcome(5, 0, 0, ()), "skipped"),
        (Outcome(-6, 0, 0, ()), "signal 6"),
        (Outcome(TIMEOUT, 3, 0, ()), "time limit"),
    ],
)
def test_verdict(outcome: Outcome, verdict: str) -> None:
    assert outcome.verdict == verdict


@pytest.mark.parametrize(
    ("ours", "lines"),
    [
        (PASSED, []),
        (Outcome(2, 5, 1, ("a",)), ["fails: a", "failed, stock passed"]),
        (Outcome(-6, 0, 0, ()), ["signal 6, stock passed", "runs 0 tests and skips 0, stock 5 and 1"]),
        (Outcome(0, 5, 2, ()), ["runs 5 tests and skips 2, stock 5 and 1"]),
    ],
)
def test_differences(ours: Outcome, lines: list[str]) -> None:
    assert differences(PASSED, ours) == lines


def test_what_fails_on_both_sides_is_no_difference() -> None:
    stock = Outcome(2, 5, 0, ("a", "b"))
    assert differences(stock, stock) == []
    assert differences(stock, Outcome(0, 5, 0, ())) == []


def test_what_some_runs_have_is_no_steady_difference() -> None:
    both, one = Outcome(2, 5, 1, ("a", "b")), Outcome(2, 5, 1, ("a",))
    assert steady([(PASSED, both), (PASSED, one)]) == ["fails: a", "failed, stock passed"]
    assert unsteady([(PASSED, both), (PASSED, one)]) == ["fails: b"]
    assert steady([(PASSED, both), (PASSED, PASSED)]) == []
