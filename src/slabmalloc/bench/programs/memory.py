# SPDX-License-Identifier: MIT
"""What this process holds of physical memory, in MiB, as the kernel counts it; and a little work to do meanwhile."""

from __future__ import annotations

import time
from pathlib import Path


def _mib(file: str, key: str) -> float:
    for line in Path("/proc/self", file).read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise LookupError(f"/proc/self/{file} has no {key}")


def pss_mib() -> float:
    """The proportional share now."""
    return _mib("smaps_rollup", "Pss:")


def private_dirty_mib() -> float:
    """What is written to and shared with nobody: in a forked child, what it has copied, and what is new."""
    return _mib("smaps_rollup", "Private_Dirty:")


def peak_mib() -> float:
    """The most that was ever resident since the process's exec (ru_maxrss would remember what was before it)."""
    return _mib("status", "VmHWM:")


def light_activity(milliseconds: int) -> int:
    """Answer a small request every 20 ms for so long, as a service does at night."""
    end, answers = time.monotonic() + milliseconds / 1000, 0
    while time.monotonic() < end:
        answer = {f"field {index}": [index, str(index)] for index in range(100)}
        answers += len(answer)
        time.sleep(0.02)
    return answers
