# SPDX-License-Identifier: MIT
"""What one run of a test module says, read from its log, and what two such runs have apart.

Understood are the logs of CPython's regrtest (which are unittest's) and of pytest with ``-rfE``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FAILED = re.compile(
    r"^(?:FAIL|ERROR): (.+)$|^(?:FAILED|ERROR) (\S+?::[\w:]+(?:\[.*?\](?= - |$))?|\S+\.py)(?: - .*)?$", re.MULTILINE
)
# Before 3.12 regrtest has no total, and unittest tells for each of its runs.
_TOTAL = re.compile(r"^Total tests: run=([\d,]+)(.*)$", re.MULTILINE)
_RAN = re.compile(r"^Ran (\d+) tests? in", re.MULTILINE)
_SKIPPED = re.compile(r"^(?:OK|FAILED) \(.*?\bskipped=(\d+)", re.MULTILINE)
_SKIPPED_IN_TOTAL = re.compile(r"skipped=([\d,]+)")
# regrtest's word for a file that asked to be skipped as a whole: it exits with 0, or with 4 where nothing else ran.
_SKIPPED_FILE = re.compile(r"^test[._]\S+ skipped -- |^\d+ tests? skipped:$", re.MULTILINE)
_PYTEST = re.compile(r"^=* ?((?:\d+ [a-z ]+, )*\d+ [a-z ]+) in [\d.]+s.*$", re.MULTILINE)
_PYTEST_RUN = {"passed", "failed", "xfailed", "xpassed"}
TIMEOUT = "time limit"
PYTEST_FOUND_NOTHING = 5


@dataclass(frozen=True)
class Outcome:
    """How a test module ended: its exit status (or that time was up), and of its tests how many ran, which failed."""

    status: int | str
    run: int
    skipped: int
    failed: tuple[str, ...]

    @property
    def verdict(self) -> str:
        if self.status == TIMEOUT:
            return TIMEOUT
        if isinstance(self.status, int) and self.status < 0:
            return f"signal {-self.status}"
        if self.failed or self.status not in (0, PYTEST_FOUND_NOTHING):
            return "skipped" if self.run == 0 and not self.failed and self.skipped else "failed"
        return "passed" if self.run else "skipped"


def parse(log: str, status: int | str) -> Outcome:
    failed = tuple(sorted({first or second for first, second in _FAILED.findall(log)}))
    if summaries := _PYTEST.findall(log):
        counts = {word: int(count) for count, word in re.findall(r"(\d+) ([a-z ]+)", summaries[-1])}
        run = sum(count for word, count in counts.items() if word in _PYTEST_RUN)
        return Outcome(status, run, counts.get("skipped", 0), failed)
    if total := _TOTAL.search(log):
        run, skipped = _number(total[1]), sum(map(_number, _SKIPPED_IN_TOTAL.findall(total[2])))
    else:
        run, skipped = sum(map(int, _RAN.findall(log))), sum(map(int, _SKIPPED.findall(log)))
    return Outcome(status, run, skipped or bool(run == 0 and _SKIPPED_FILE.search(log)), failed)


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def differences(stock: Outcome, ours: Outcome) -> list[str]:
    """In what ``ours`` falls short of ``stock``, a line each; none if what passes on stock passes."""
    found = [f"fails: {name}" for name in ours.failed if name not in stock.failed]
    if ours.verdict != stock.verdict and ours.verdict != "passed":
        found.append(f"{ours.verdict}, stock {stock.verdict}")
    if (ours.run, ours.skipped) != (stock.run, stock.skipped):
        found.append(f"runs {ours.run} tests and skips {ours.skipped}, stock {stock.run} and {stock.skipped}")
    return found


def steady(runs: list[tuple[Outcome, Outcome]]) -> list[str]:
    """The differences that every pair of runs (stock, ours) has."""
    first, *others = [differences(*pair) for pair in runs]
    return [line for line in first if all(line in other for other in others)]


def unsteady(runs: list[tuple[Outcome, Outcome]]) -> list[str]:
    """The others: most are of tests that fail now and then, but what crashes now and then is among them as well."""
    lines = dict.fromkeys(line for pair in runs for line in differences(*pair))
    return [line for line in lines if line not in steady(runs)]
