# SPDX-License-Identifier: MIT
"""A command with all processes that it starts, watched from outside: memory once a second, and processor time.

They are known by their session, which is the command's own. Memory is the sum of their proportional shares (PSS), so
what they share is counted once. Linux only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from slabmalloc.bench import children

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SAMPLE_SECONDS, END_SECONDS, HELPERS_SECONDS = 1.0, 60, 5
_TICK = os.sysconf("SC_CLK_TCK")
_SESSION, _TIMES = 3, slice(11, 15)  # members of /proc/PID/stat behind the name: user, system, and those of children


@dataclass
class Sample:
    """One look: seconds since the start, MiB, how many processes have memory, and how many of them map the library."""

    at: float
    mib: float
    processes: int
    served: int


@dataclass
class Tree:
    """The command, running. `samples` grow until `stop`."""

    process: subprocess.Popen[str]
    library: str
    samples: list[Sample] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.start

    def pids(self) -> list[int]:
        """Of all processes now."""
        everyone = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
        own = [str(self.process.pid)]
        return [pid for pid in everyone if _stat(pid)[_SESSION : _SESSION + 1] == own]

    def processor_seconds(self) -> float:
        """User and system time of all, those included that ended and were waited for."""
        return sum(sum(map(int, _stat(pid)[_TIMES])) for pid in self.pids()) / _TICK

    def unwatch(self) -> None:
        """No more samples."""
        self._stopped.set()
        self._sampler.join()

    def end(self) -> None:
        """Waits a while for the command to end. RuntimeError: it does not, or ends in another way than it should, or
        leaves processes behind.
        """
        try:
            status = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise RuntimeError("it did not end") from None
        if status != 0:
            raise RuntimeError(f"exit status {status}")
        # multiprocessing has helpers that end by themselves when the last process that they serve is gone.
        limit = time.monotonic() + HELPERS_SECONDS
        while (left := len(self.pids())) and time.monotonic() < limit:
            time.sleep(0.1)
        if left:
            raise RuntimeError(f"{left} processes were left behind")

    def kill(self) -> None:
        """Whatever is still there."""
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)

    def _sample(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            at, pids = self.seconds, self.pids()
            mib = sum(children.pss_mib(pid) or 0.0 for pid in pids)
            maps = [text for pid in pids if (text := _text(pid, "maps"))]  # one that ends has none
            served = sum(self.library in text for text in maps)
            self.samples.append(Sample(round(at, 2), round(mib, 2), len(maps), served))


def start(words: Sequence[str], environment: Mapping[str, str], folder: Path, log: IO[str], library: str) -> Tree:
    """Starts a command in `folder`, in a session of its own; `library` is looked for in its processes."""
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
    )
    return Tree(process, library)


def _stat(pid: int) -> list[str]:
    return _text(pid, "stat").rpartition(")")[2].split()


def _text(pid: int, name: str) -> str:
    """Nothing, if the process is gone."""
    try:
        return Path("/proc", str(pid), name).read_text()
    except OSError:
        return ""
