# SPDX-License-Identifier: MIT
"""One program in a fresh process (floor 6): what it printed, and what the kernel says that it took.

The processor time is that of the whole process from exec to exit, children that it waited for included, so what a side
does before the program starts is in it. Memory is not taken from there: ru_maxrss is inherited across exec, and would
tell of this process. The program reads its own in /proc, or is watched from outside.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .commands import Command

__all__ = ["Failed", "TookTooLong", "in_effect", "pss_mib", "run"]

LIMIT_SECONDS = 900.0
SAMPLE_SECONDS = 0.05
TRIAL_SECONDS = 10.0


class Failed(Exception):
    """A process that did not end well: its exit status, and the last line that it wrote to standard error."""


def run(
    words: Sequence[str],
    environment: Mapping[str, str],
    limit_seconds: float = LIMIT_SECONDS,
    *,
    is_watched: bool = False,
) -> dict[str, Any]:
    """The record: what the program printed as JSON, if anything, `cpu_s` and `wall_s`. Raises `Failed`.

    `is_watched` adds `memory_over_time`: pairs of seconds and MiB.
    """
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complaints:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=complaints)
        except OSError as error:
            raise Failed(f"can't be started: {error.strerror}") from None
        watcher = _Watcher(process.pid, start, limit_seconds, is_watched)
        watcher.start()
        try:
            # Not reaped yet: until the watcher is gone its number must be no other process's.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        except BaseException:
            os.kill(process.pid, signal.SIGKILL)
            raise
        finally:
            watcher.stop()
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        if watcher.has_killed:
            raise TookTooLong(f"did not end within {limit_seconds:.0f} s")
        said.seek(0)
        complaints.seek(0)
        if process.returncode != 0:
            raise Failed(_reason(process.returncode, complaints.read().decode(errors="replace")))
        printed = said.read().decode(errors="replace")
    record: dict[str, Any] = json.loads(printed) if printed.startswith("{") else {}
    if is_watched:
        record["memory_over_time"] = watcher.memory
    return {**record, "cpu_s": usage.ru_utime + usage.ru_stime, "wall_s": wall}


class TookTooLong(Failed):
    """It did not end before its limit."""


class _Watcher(threading.Thread):
    """Ends the process when its time is up, and notes its memory until then if it is to be watched."""

    def __init__(self, pid: int, start: float, limit_seconds: float, is_watched: bool) -> None:
        super().__init__(daemon=True)
        self.memory: list[tuple[float, float]] = []
        self.has_killed = False
        self._pid, self._start, self._limit, self._is_watched = pid, start, limit_seconds, is_watched
        self._is_over = threading.Event()

    def run(self) -> None:
        while (left := self._start + self._limit - time.perf_counter()) > 0:
            if self._is_over.wait(min(left, SAMPLE_SECONDS) if self._is_watched else left):
                return
            if self._is_watched and (mebibytes := pss_mib(self._pid)):
                self.memory.append((round(time.perf_counter() - self._start, 3), round(mebibytes, 2)))
        self.has_killed = True
        os.kill(self._pid, signal.SIGKILL)

    def stop(self) -> None:
        """Nothing happens to the process any more when this returns."""
        self._is_over.set()
        self.join()


def pss_mib(pid: int) -> float | None:
    """The process's proportional share of physical memory, in MiB; None once it is gone.

    >>> pss_mib(os.getpid()) > 1
    True
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), None)


def _reason(status: int, complaints: str) -> str:
    ended = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    lines = [line for line in complaints.splitlines() if line.strip()]
    return f"{ended}: {lines[-1].strip()}" if lines else ended


def in_effect(sides: Sequence[Command]) -> tuple[list[Command], dict[str, str]]:
    """The sides whose trial ends well, and why the others don't."""
    working, failed = [], {}
    for side in sides:
        try:
            run([*side.words, *side.trial], side.environment, TRIAL_SECONDS)
        except Failed as failure:
            failed[side.name] = f"not in effect: {failure}"
        else:
            working.append(side)
    return working, failed
