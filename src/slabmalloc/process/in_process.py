# SPDX-License-Identifier: MIT
"""The wrapper form from the start of a program on (floor 5): its domains and NumPy's data behind hooks.

`prepare` runs a program in this interpreter, for ``slabmalloc run --in-process``; `begin` serves the one that is about
to run. What only the former needs, or only the end, is imported there: a program's start waits for it.
"""

from __future__ import annotations

import atexit
import os
import sys
import time

from .domains import install, stats, summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from .launcher import Program

    Report = tuple[str | None, bool]
    """Where the summary goes (None: standard error), and if as JSON."""

__all__ = ["begin", "prepare"]


def prepare(program: Sequence[str], domains: Sequence[str], report: Report | None) -> Program:
    """Loads the program, and does what `begin` does. OSError, RuntimeError, ValueError: it can't be.

    `program` are python's own words for it, as `CommandLine` has them.
    """
    loaded = _load(program)
    begin(domains, report)
    return loaded


def begin(domains: Sequence[str], report: Report | None) -> None:
    """Installs, and has the summary written at exit unless `report` is None. RuntimeError, ValueError: it can't be."""
    _install(domains)
    huge_pages = stats().huge_pages
    if huge_pages not in ("on", "off") and sys.stderr is not None:
        print(f"slabmalloc: huge pages are not used: {huge_pages}", file=sys.stderr)
    if report is not None:
        atexit.register(_summarize, os.getpid(), time.monotonic(), *report, sys.stderr)


def _load(words: Sequence[str]) -> Program:
    from . import launcher

    kind, *rest = words
    if kind == "-m":
        return launcher.load_module(rest[0], rest[1:])
    if kind == "-c":
        return launcher.load_command(rest[0], rest[1:])
    if kind == "--":
        kind, *rest = rest
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


def _open_at_once(path: str, flags: int) -> int:
    """A FIFO that nobody reads is an error, instead of waiting for a reader."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


def _summarize(pid: int, start: float, path: str | None, as_json: bool, stream: TextIO | None) -> None:
    """Registered before the program can register anything, so it is called last; forked children pass it by."""
    if os.getpid() != pid:
        return
    text = summary(time.monotonic() - start, as_json=as_json)
    if path is not None:
        try:
            with open(path, "w", encoding="utf-8", opener=_open_at_once) as file:
                file.write(text)
            return
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            text = f"slabmalloc: can't write the summary: {path}: {reason}; it goes to standard error\n{text}"
    if stream is None:
        return
    try:
        os.fstat(stream.fileno())  # what stays in the buffer of a closed stream makes the interpreter exit with 120
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):  # there is nobody to tell
        pass
