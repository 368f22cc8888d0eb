# SPDX-License-Identifier: MIT
"""``slabmalloc run`` (floor 6): a program on slabmalloc, and at its end what slabmalloc did.

Options come before the program, ours and the interpreter's; everything behind it is the program's own. As a rule this
process becomes the program, on the preload library; with ``--in-process`` the program runs in this interpreter, behind
hooks. The summary is written by the process that was started, at its end: not by its children, not when a signal or
`os._exit` ends it.
"""

from __future__ import annotations

import os
import sys

from slabmalloc.process.command_line import CommandLine, is_known
from slabmalloc.switches import is_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slabmalloc.process.command_line import Option
    from slabmalloc.process.in_process import Report

__all__ = ["main"]


class _Options:
    """What the options say, and what holds where they say nothing."""

    python: CommandLine
    domains: str | None = None
    decay: int | None = None
    cache: int | None = None
    reserve: int | None = None
    classes: str | None = None
    hardened = huge_pages = no_children = in_process = quiet = json = False
    summary: str | None = None


def main(arguments: Sequence[str]) -> int:
    """Runs the program; raises what the program raises, SystemExit included. 2: wrong usage, or it can't be started."""
    options = _options(arguments)
    if options.python.program in ([], ["--"]):
        return _complain("what shall be run? Give a script, -m MODULE or -c CODE (see slabmalloc run --help)")
    try:
        start = _prepare(options)
    except OSError as error:
        return _complain(f"can't open file {error.filename!r}: [Errno {error.errno}] {error.strerror}")
    except (RuntimeError, ValueError) as error:
        return _complain(str(error))
    start()
    return 0


_FLAGS = ("--hardened", "--huge-pages", "--in-process", "--json", "--no-children", "--quiet")


_WITH_VALUE = ("--cache", "--classes", "--decay", "--domains", "--reserve", "--summary")


def _options(arguments: Sequence[str]) -> _Options:
    """Flags and a program are understood without argparse, whose import is half as long as an interpreter's start."""
    options = _Options()
    options.python = CommandLine(arguments, _WITH_VALUE)
    own = options.python.long
    if options.python.program and all(word in _FLAGS for word in own) and all(map(is_known, options.python.options)):
        for word in own:
            setattr(options, word[2:].replace("-", "_"), True)
        return options
    from .run_options import read
    from .streams import while_read

    while_read(lambda: read(own, options.python.options, options))
    return options


def _prepare(options: _Options) -> Callable[[], None]:
    """What runs the program in this interpreter, after all that can go wrong; or this process becomes the program."""
    if options.in_process and options.python.options:
        raise ValueError(_too_late(options.python.options))
    domains = _domains(options)
    summary = _summary(options)
    if options.classes is not None:
        _check_classes(options.classes)
    os.environ.update(_settings(options))
    if options.in_process:
        from slabmalloc.process import in_process

        return in_process.prepare(options.python.program, domains or (), summary)
    from slabmalloc.process import preload

    settings = _settings_of_run(options, domains, summary)
    return preload.replace_process(preload.interpreter_options(), options.python.words, settings)


def _too_late(options: Sequence[Option]) -> str:
    import shlex

    words = shlex.join(word for letter, value in options for word in (f"-{letter}", value) if word is not None)
    return (
        f"{words}: too late with --in-process, whose interpreter runs already; start that so: "
        f"python {words} -m slabmalloc run --in-process ..."
    )


def _domains(options: _Options) -> list[str] | None:
    """Those named; None: those of the variable, which the library reads itself.

    ValueError, with the remedy: the list stands for something else than it says, or for nothing.
    """
    if options.domains is None and not options.in_process:
        return None
    from slabmalloc.process.domains import DOMAINS, VARIABLE, domains_of_variable, named_domains

    if options.domains is None:
        given = f"{VARIABLE}={os.environ.get(VARIABLE, '')!r}"
        names = domains_of_variable(os.environ.get(VARIABLE, ""), is_preload=False, is_told=True)
    else:
        given = f"--domains={options.domains!r}"
        try:
            names = named_domains(options.domains, is_preload=not options.in_process)
        except ValueError as error:
            raise ValueError(f"{given}: {error}") from None
    if options.in_process and not names:
        raise ValueError(f"{given} leaves nothing to serve in process; name some of {', '.join(DOMAINS)}")
    return names


def _check_classes(spec: str) -> None:
    from slabmalloc.process.domains import size_classes

    try:
        size_classes(spec)
    except ValueError as error:
        raise ValueError(f"--classes={spec}: {error}") from None


def _settings(options: _Options) -> dict[str, str]:
    """What the options say, as the environment variables that both forms read."""
    values = {
        "SLABMALLOC_DECAY_MS": options.decay,
        "SLABMALLOC_CACHE_BYTES": options.cache,
        "SLABMALLOC_RESERVE": options.reserve,
        "SLABMALLOC_HARDENED": 1 if options.hardened else None,
        "SLABMALLOC_HUGE_PAGES": 1 if options.huge_pages else None,
        "SLABMALLOC_CLASSES": options.classes,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _settings_of_run(options: _Options, domains: Sequence[str] | None, summary: Report | None) -> dict[str, str]:
    settings = {} if domains is None else {"SLABMALLOC_DOMAINS": ",".join(domains) or "none"}
    if options.no_children:
        settings["SLABMALLOC_NO_CHILDREN"] = "1"
    if summary is not None:
        path, as_json = summary
        settings["SLABMALLOC_SUMMARY"] = path or "-"
        if as_json:
            settings["SLABMALLOC_SUMMARY_JSON"] = "1"
    return settings


def _summary(options: _Options) -> Report | None:
    """Where the summary goes (None: standard error), and whether as JSON; None: nowhere.

    The variables that say so are for this process alone, and leave the environment.
    """
    is_switched = is_on("SLABMALLOC_SUMMARY_JSON")
    named = os.environ.pop("SLABMALLOC_SUMMARY", "")
    os.environ.pop("SLABMALLOC_SUMMARY_JSON", None)
    if options.quiet:
        return None
    as_json = options.json or options.summary == "json" or is_switched
    place = "-" if options.summary == "json" else options.summary or named or "-"
    return None if place == "-" else os.path.abspath(place), as_json  # noqa: PTH100 - it starts quicker


def _complain(message: str) -> int:
    print(f"slabmalloc run: {message}", file=sys.stderr)
    return 2
