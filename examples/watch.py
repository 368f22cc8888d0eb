# SPDX-License-Identifier: MIT
"""A process watched from outside: its memory over time, and when it printed what. Linux only.

Memory is the proportional share of physical memory (PSS) in /proc/PID/smaps_rollup, ten times a second.
"""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from slabmalloc.bench.children import pss_mib

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Run", "watch"]

SAMPLE_SECONDS = 0.1


@dataclass
class Run:
    """One process: memory over time, and when it printed what (seconds since its start, MiB)."""

    memory: list[tuple[float, float]] = field(default_factory=list)
    phases: list[tuple[float, str]] = field(default_factory=list)

    @property
    def work_seconds(self) -> float:
        """Until what was not kept is gone; the time of answering queries is the program's own choice."""
        return next(at for at, line in self.phases if line.startswith("kept"))

    @property
    def peak(self) -> float:
        """The largest of the samples."""
        return max(mebibytes for _, mebibytes in self.memory)

    @property
    def after_release(self) -> float:
        """The median of the last second."""
        end = self.memory[-1][0]
        return statistics.median(mebibytes for at, mebibytes in self.memory if at >= end - 1)


def watch(command: Sequence[str], environment: Mapping[str, str]) -> Run:
    """Runs the command and watches it to its end. RuntimeError if its exit status is not 0."""
    run, start = Run(), time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    reader = threading.Thread(target=_note_phases, args=(process.stdout, start, run))
    reader.start()
    while process.poll() is None:
        mebibytes = pss_mib(process.pid)
        if mebibytes:
            run.memory.append((time.monotonic() - start, mebibytes))
        time.sleep(SAMPLE_SECONDS)
    reader.join()
    if process.returncode != 0:
        raise RuntimeError(f"exit status {process.returncode}")
    # What the interpreter tears down after the program's last line is no part of the comparison.
    run.memory = [sample for sample in run.memory if sample[0] <= run.phases[-1][0]]
    return run


def _note_phases(stream: IO[str], start: float, run: Run) -> None:
    """Notes each line that the program prints, and when."""
    run.phases.extend((time.monotonic() - start, line.rstrip()) for line in stream)
