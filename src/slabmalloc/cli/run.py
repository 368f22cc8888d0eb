# SPDX-License-Identifier: MIT
"""``slabmalloc run`` (floor 6): a program on slabmalloc, and at its end what slabmalloc did.

Options come before the program; everything behind it is the program's own. The summary is written when the interpreter
ends, after the program's own exit functions, and only by the process that was started: not by its forked children, not
when a signal or `os._exit` ends it.
"""

from __future__ import annotations

import argparse
import atexit
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

from slabmalloc.process import ProcessStats, install, launcher, stats

__all__ = ["main"]

_Form = Callable[[ProcessStats, float], str]
"""Renders the summary of a run of so many seconds."""


def main(arguments: Sequence[str]) -> int:
    """Runs the program; raises what the program raises, SystemExit included. 2: wrong usage, or it can't be started."""
    options = _parser().parse_args(arguments)
    try:
        program = _load(options)
        if program is None:
            return _complain("what shall be run? Give a script, -m MODULE or -c CODE (see slabmalloc run --help)")
        _install(options.domains.split(","))
    except OSError as error:
        return _complain(f"can't open file {error.filename!r}: [Errno {error.errno}] {error.strerror}")
    except (RuntimeError, ValueError) as error:
        return _complain(str(error))
    if not options.quiet:
        _summarize_at_exit(options.summary, options.json)
    program()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="slabmalloc run",
        usage="slabmalloc run [options] [-m MODULE | -c CODE | SCRIPT | -] [arguments...]",
        description="Runs a program as python does, with CPython's obj and mem domains on slabmalloc.",
        allow_abbrev=False,
    )
    rest = argparse.REMAINDER
    parser.add_argument("-m", dest="module", nargs=rest, metavar="...", help="run a module, as python -m does")
    parser.add_argument("-c", dest="command", nargs=rest, metavar="...", help="run the code given, as python -c does")
    parser.add_argument(
        "script", nargs=rest, metavar="...", help="run a script, directory or archive (-: standard input)"
    )
    parser.add_argument(
        "--domains", default="obj,mem", metavar="LIST", help="which domains to serve (default: obj,mem)"
    )
    parser.add_argument("--quiet", action="store_true", help="no summary at the end")
    parser.add_argument("--json", action="store_true", help="the summary as JSON")
    parser.add_argument(
        "--summary",
        default="-",
        metavar="FILE",
        help="write the summary to FILE (default: standard error; json: there, as JSON)",
    )
    return parser


def _load(options: argparse.Namespace) -> launcher.Program | None:
    """The program that the options name, ready to run; None if they name none."""
    if options.module:
        return launcher.load_module(options.module[0], options.module[1:])
    if options.command:
        return launcher.load_command(options.command[0], options.command[1:])
    words = options.script[1:] if options.script[:1] == ["--"] else options.script
    if not words:
        return None
    return launcher.load_stdin(words[1:]) if words[0] == "-" else launcher.load_script(words[0], words[1:])


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


def _summarize_at_exit(target: str, as_json: bool) -> None:
    """Registered before the program can register anything, so it is called last."""
    # Imported now: an import at exit makes the interpreter forget that an interrupt ended it (exit status 130).
    from slabmalloc.insight.summary import summary_json, summary_text

    form = summary_json if as_json or target == "json" else summary_text
    path = None if target in ("-", "json") else Path(target).absolute()
    atexit.register(partial(_summarize, form, os.getpid(), time.monotonic(), path, sys.stderr))


def _summarize(form: _Form, pid: int, start: float, path: Path | None, stream: TextIO | None) -> None:
    if os.getpid() != pid:
        return
    text = form(stats(), time.monotonic() - start)
    try:
        if path is not None:
            path.write_text(text, encoding="utf-8")
        elif stream is not None:
            os.fstat(stream.fileno())  # what stays in the buffer of a closed stream makes the interpreter exit with 120
            stream.write(text)
            stream.flush()
    except (OSError, ValueError) as error:
        if path is not None:
            _complain(f"can't write the summary: {error}")  # else standard error is closed, and there is nobody to tell


def _complain(message: str) -> int:
    print(f"slabmalloc run: {message}", file=sys.stderr)
    return 2
