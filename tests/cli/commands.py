# SPDX-License-Identifier: MIT
"""The command line of slabmalloc in fresh processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from forms import IS_FREE_THREADED

pytest.importorskip("slabmalloc.process._pymem", reason="needs the native extension")

SLABMALLOC = [sys.executable, "-m", "slabmalloc"]
RUN = [*SLABMALLOC, "run"]
FORMS: dict[str, list[str]] = {"preload": RUN, "in process": [*RUN, "--in-process"]}
if IS_FREE_THREADED:
    RUN.append("--domains=raw")  # it could not have the others, and would say so
    del FORMS["in process"]


def run(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **settings)  # type: ignore[call-overload, no-any-return]
