# SPDX-License-Identifier: MIT
"""The wrapper form of a run (floor 5): a program in this interpreter, its domains and NumPy's data behind hooks."""

from __future__ import annotations

import atexit
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from . import launcher
from .domains import install, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["prepare"]


def prepare(program: Sequence[str], domains: Sequence[str], report: tuple[str | None, bool] | None) -> launcher.Program:
    """Loads the program, installs, and has the summary written at exit. OSError, RuntimeError, ValueError: it can't be.

    `program` are python's own words for it. `report`: where the summary goes (None: standard error), and if as JSON.
    """
    loaded = _load(program)
    _install(domains)
    if report is not None:
        path, as_json = report
        atexit.register(partial(_summarize, os.getpid(), time.monotonic(), path, as_json, sys.stderr))
    return loaded


def _load(words: Sequence[str]) -> launcher.Program:
    kind, *rest = words
    if kind == "-m":
        return launcher.load_module(rest[0], rest[1:])
    if kind == "-c":
        return launcher.load_command(rest[0], rest[1:])
    return launcher.load_stdin(rest) if kind == "-" else launcher.load_script(kind, rest)


def _install(domains: Sequence[str]) -> None:
    """As `install`; a `tracemalloc` that runs from the start begins anew on top of us, as no program ran yet."""
    import _tracemalloc

    frames = _tracemalloc.get_traceback_limit() if _tracemalloc.is_tracing() else 0
    if frames:
        _tracemalloc.stop()
    try:
        install(domains)
    finally:
        if frames:
            _tracemalloc.start(frames)


def _summarize(pid: int, start: float, path: str | None, as_json: bool, stream: TextIO | None) -> None:
    """Registered before the program can register anything, so it is called last; forked children pass it by."""
    if os.getpid() != pid:
        return
    text = summary(time.monotonic() - start, as_json=as_json)
    try:
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        elif stream is not None:
            os.fstat(stream.fileno())  # what stays in the buffer of a closed stream makes the interpreter exit with 120
            stream.write(text)
            stream.flush()
    except (OSError, ValueError) as error:
        if path is not None:  # else standard error is closed, and there is nobody to tell
            print(f"slabmalloc run: can't write the summary: {error}", file=sys.stderr)
