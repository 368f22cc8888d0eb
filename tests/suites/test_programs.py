# SPDX-License-Identifier: MIT
"""Programs that are no Python, on the C library's malloc and on the preload library: the same session twice.

A session is a list of commands (`sessions.py`). What each says and how it ends must be the same on both sides. On ours
each command must have been served: it leaves a summary, in which every block and every byte is accounted for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from sessions import SESSIONS

from slabmalloc.process import preload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

try:
    LIBRARY = preload.library()
except RuntimeError as reason:
    pytest.skip(str(reason), allow_module_level=True)

SECONDS = 300
# The process ID must be the program's own, and what it starts must not write to the same file.
STARTER = """#!/bin/sh
if [ -n "$SERVED_BY" ]; then
    export LD_PRELOAD="$SERVED_BY" SLABMALLOC_DOMAINS=none SLABMALLOC_RUN_PID=$$ \\
        SLABMALLOC_SUMMARY_JSON=1 SLABMALLOC_SUMMARY="$SUMMARIES/$$.json"
fi
exec "$@"
"""


@dataclass
class Session:
    """Commands in a folder of their own; `library` is what they are preloaded with, if anything."""

    folder: Path
    library: str
    transcript: list[tuple[Sequence[str], int, str]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.place = self.folder / "here"
        self.place.mkdir(parents=True)
        self.summaries = self.folder / "summaries"
        self.summaries.mkdir()
        self.starter = self.folder / "start"
        self.starter.write_text(STARTER)
        self.starter.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LD_PRELOAD", "SLABMALLOC"))}
        here = {"HOME": str(self.place), "SERVED_BY": self.library, "SUMMARIES": str(self.summaries)}
        self.environment = {**kept, **here, "LC_ALL": "C", "TZ": "UTC"}

    def run(self, *words: str, given: str = "", status: int = 0) -> str:
        """Runs a command with `given` on its standard input; it must end with `status`. Returns what it said."""
        said = self.quietly(*words, given=given, status=status)
        self.transcript.append((words, status, said))
        return said

    def quietly(self, *words: str, given: str = "", status: int = 0) -> str:
        """The same, for what says something else each time (how fast it was): that is not compared."""
        done = subprocess.run(
            [str(self.starter), *words],
            cwd=self.place,
            env=self.environment,
            input=given.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
        )
        said = done.stdout.decode(errors="replace")
        assert done.returncode == status, f"{words}: status {done.returncode}\n{said[-3000:]}"
        assert "slabmalloc" not in said.replace(str(self.folder), ""), said[-3000:]
        return said

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Starts a command and does not wait; its output goes to a file beside the folder."""
        with (self.folder / "log").open("wb") as log:
            return subprocess.Popen(
                [str(self.starter), *words], cwd=self.place, env=self.environment, stdout=log, stderr=log
            )


def processor_seconds() -> float:
    """Of all children that ended, with theirs."""
    times = os.times()
    return times.children_user + times.children_system


def read_reports(folder: Path) -> list[dict[str, Any]]:
    """The summaries of all processes that left one."""
    return [json.loads(path.read_text()) for path in sorted(folder.iterdir())]


def check_report(report: dict[str, Any]) -> None:
    domain = report["domains"]["malloc"]
    assert report["form"] == "preload"
    assert domain["served_blocks"] > 0
    assert domain["passed_blocks"] == 0
    assert domain["served_blocks"] - domain["freed_blocks"] == report["live_objects"], report
    kinds = ("live_bytes", "free_bytes", "tail_bytes", "resting_bytes")
    assert sum(report[kind] for kind in kinds) == report["mapped_bytes"], report


@pytest.mark.slow
@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_is_the_same_on_slabmalloc(name: str, tmp_path: Path) -> None:
    session, programs = SESSIONS[name]
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    sides, seconds = [], []
    for library in ("", LIBRARY):
        side = Session(tmp_path / "session", library)
        begin = processor_seconds()
        session(side)
        seconds.append(processor_seconds() - begin)
        sides.append(side)
        side.reports = read_reports(side.summaries)
        # Some programs write down where they ran, so both run in a folder of the same name.
        shutil.rmtree(side.folder)
    stock, ours = sides
    assert len(stock.transcript) == len(ours.transcript) > 0
    for expected, got in zip(stock.transcript, ours.transcript, strict=True):
        assert got == expected
    assert not stock.reports
    assert len(ours.reports) >= len(ours.transcript)
    for report in ours.reports:
        check_report(report)
    blocks = sum(report["domains"]["malloc"]["served_blocks"] for report in ours.reports)
    size = sum(len(said) for _, _, said in ours.transcript)
    print(
        f"{name}: {len(ours.transcript)} outputs, {size:,} characters, equal; {len(ours.reports)} processes reported, "
        f"{blocks:,} blocks served; processor time {seconds[0]:.1f} s on stock, {seconds[1]:.1f} s on slabmalloc"
    )
