# SPDX-License-Identifier: MIT
"""One program in a fresh process: what it printed, and what the kernel says that it took.

The processor time is that of the whole process from exec to exit, children that it waited for included, so what a side
does before the program starts is in it. Memory is not taken from here: ru_maxrss is inherited across exec, and would
tell of this process. The program reads its own in /proc.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.commands import Command

LIMIT_SECONDS = 900


class Failed(Exception):
    """A process that did not end well: its exit status, and the last line that it wrote to standard error."""


def run(words: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """The record: what the program printed as JSON, if anything, and `cpu_s` and `wall_s`. Raises `Failed`."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complaints:
        start = time.perf_counter()
        process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=complaints)
        limit = threading.Timer(LIMIT_SECONDS, os.kill, (process.pid, signal.SIGKILL))
        limit.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            limit.cancel()
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        complaints.seek(0)
        if process.returncode != 0:
            raise Failed(_reason(process.returncode, complaints.read().decode(errors="replace")))
        printed = said.read().decode(errors="replace")
    record: dict[str, Any] = json.loads(printed) if printed.startswith("{") else {}
    return {**record, "cpu_s": usage.ru_utime + usage.ru_stime, "wall_s": wall}


def _reason(status: int, complaints: str) -> str:
    ended = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    lines = [line for line in complaints.splitlines() if line.strip()]
    return f"{ended}: {lines[-1].strip()}" if lines else ended


def in_effect(sides: Sequence[Command]) -> tuple[list[Command], dict[str, str]]:
    """The sides whose trial ends well, and why the others don't."""
    working, failed = [], {}
    for side in sides:
        try:
            run([*side.words, *side.trial], side.environment)
        except Failed as failure:
            failed[side.name] = f"not in effect: {failure}"
        else:
            working.append(side)
    return working, failed
