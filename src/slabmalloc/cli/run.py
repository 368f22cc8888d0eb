# SPDX-License-Identifier: MIT
"""``slabmalloc run`` (floor 6): a program on slabmalloc, and at its end what slabmalloc did.

Options come before the program; everything behind it is the program's own. As a rule this process becomes the program,
on the preload library; with ``--in-process`` the program runs in this interpreter, behind hooks. The summary is written
by the process that was started, at its end: not by its children, not when a signal or `os._exit` ends it.
"""

from __future__ import annotations

import argparse
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Runs the program; raises what the program raises, SystemExit included. 2: wrong usage, or it can't be started."""
    options = _parser().parse_args(arguments)
    program = _program(options)
    if not program:
        return _complain("what shall be run? Give a script, -m MODULE or -c CODE (see slabmalloc run --help)")
    try:
        start = _prepare(program, options)
    except OSError as error:
        return _complain(f"can't open file {error.filename!r}: [Errno {error.errno}] {error.strerror}")
    except (RuntimeError, ValueError) as error:
        return _complain(str(error))
    start()
    return 0


def _prepare(program: list[str], options: argparse.Namespace) -> Callable[[], None]:
    """What runs the program in this interpreter, after all that can go wrong; or this process becomes the program."""
    domains = _domains(options.domains, options.in_process)
    if options.classes is not None:
        _check_classes(options.classes)
    os.environ.update(_settings(options))
    if options.in_process:
        from slabmalloc.process import in_process

        return in_process.prepare(program, domains, _summary(options))
    from slabmalloc.process import preload

    return preload.replace_process(preload.interpreter_options(), program, _settings_of_run(options, domains))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="slabmalloc run",
        usage="slabmalloc run [options] [-m MODULE | -c CODE | SCRIPT | -] [arguments...]",
        description="Runs a program as python does, with the memory of CPython, NumPy and C extensions on slabmalloc.",
        epilog="The environment variables SLABMALLOC_DECAY_MS (milliseconds), SLABMALLOC_CACHE_BYTES, "
        "SLABMALLOC_RESERVE (bytes), SLABMALLOC_HUGE_PAGES (1), SLABMALLOC_CLASSES and SLABMALLOC_DOMAINS say the same "
        "where the library is preloaded by other means.",
        allow_abbrev=False,
        formatter_class=_formatter,
    )
    rest = argparse.REMAINDER
    parser.add_argument("-m", dest="module", nargs=rest, metavar="...", help="run a module, as python -m does")
    parser.add_argument("-c", dest="command", nargs=rest, metavar="...", help="run the code given, as python -c does")
    parser.add_argument(
        "script", nargs=rest, metavar="...", help="run a script, directory or archive (-: standard input)"
    )
    parser.add_argument(
        "--domains",
        metavar="LIST",
        help="which of CPython's domains to serve besides malloc (default: obj,mem,raw; in process numpy too)",
    )
    parser.add_argument(
        "--decay",
        type=_seconds,
        metavar="SECONDS",
        help="give memory back when it has rested so long; 0: at once (default: 1)",
    )
    parser.add_argument(
        "--cache",
        type=_mebibytes,
        metavar="MIB",
        help="let freed blocks above 128 KiB rest up to so much, or an eighth of what is live (default: 64)",
    )
    parser.add_argument(
        "--reserve", type=_mebibytes, metavar="MIB", help="address space to begin with (default: 65536, if granted)"
    )
    parser.add_argument(
        "--huge-pages",
        action="store_true",
        help="put memory into transparent huge pages; it goes back by whole ones alone (default: no)",
    )
    parser.add_argument(
        "--classes",
        metavar="SPEC",
        help="size classes: default, powers-of-two, geometric:N, or multiples of 16 with commas (default: default)",
    )
    parser.add_argument(
        "--no-children", action="store_true", help="programs that this one starts run without slabmalloc"
    )
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="serve CPython's domains and NumPy's data, behind hooks in this interpreter, instead of preloading",
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


def _formatter(prog: str) -> argparse.HelpFormatter:
    # Left to itself it imports shutil, for the width, long before there is anything to format.
    columns = os.environ.get("COLUMNS", "")
    return argparse.HelpFormatter(prog, width=(int(columns) if columns.isdigit() else 100) - 2)


def _seconds(text: str) -> int:
    """Milliseconds."""
    value = float(text)
    if not 0 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds from 0 to 1,000,000")
    return round(value * 1000)


def _mebibytes(text: str) -> int:
    """Bytes."""
    value = float(text)
    if not 0 <= value <= 1 << 30:
        raise argparse.ArgumentTypeError(f"{text} is no number of MiB from 0 to {1 << 30:,}")
    return round(value * 2**20)


def _program(options: argparse.Namespace) -> list[str]:
    """The program as python's own words, `-m name args...` for one; empty if the options name none."""
    if options.module:
        return ["-m", *options.module]
    if options.command:
        return ["-c", *options.command]
    words: list[str] = options.script
    return words[1:] if words[:1] == ["--"] else words


_DOMAINS = ("obj", "mem", "raw", "numpy")


def _domains(text: str | None, in_process: bool) -> list[str]:
    """The names in the list; the preload library takes `numpy` as well, and has it anyway: malloc serves it."""
    if text is None:
        return [name for name in _DOMAINS if in_process or name != "numpy"]
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in _DOMAINS:
            raise ValueError(f"{name!r} is not a domain that can be installed; there are: {', '.join(_DOMAINS)}")
    return names


def _check_classes(spec: str) -> None:
    from slabmalloc.process.domains import size_classes

    try:
        size_classes(spec)
    except ValueError as error:
        raise ValueError(f"--classes={spec}: {error}") from None


def _settings(options: argparse.Namespace) -> dict[str, str]:
    """What the options say, as the environment variables that both forms read."""
    values = {
        "SLABMALLOC_DECAY_MS": options.decay,
        "SLABMALLOC_CACHE_BYTES": options.cache,
        "SLABMALLOC_RESERVE": options.reserve,
        "SLABMALLOC_HUGE_PAGES": 1 if options.huge_pages else None,
        "SLABMALLOC_CLASSES": options.classes,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _settings_of_run(options: argparse.Namespace, domains: Sequence[str]) -> dict[str, str]:
    settings = {"SLABMALLOC_DOMAINS": ",".join(domains)}
    if options.no_children:
        settings["SLABMALLOC_NO_CHILDREN"] = "1"
    summary = _summary(options)
    if summary is not None:
        path, as_json = summary
        settings["SLABMALLOC_SUMMARY"] = path or "-"
        if as_json:
            settings["SLABMALLOC_SUMMARY_JSON"] = "1"
    return settings


def _summary(options: argparse.Namespace) -> tuple[str | None, bool] | None:
    """Where the summary goes (None: standard error), and whether as JSON; None: nowhere."""
    if options.quiet:
        return None
    path = None if options.summary in ("-", "json") else os.path.abspath(options.summary)  # noqa: PTH100 - it starts quicker
    return path, options.json or options.summary == "json"


def _complain(message: str) -> int:
    print(f"slabmalloc run: {message}", file=sys.stderr)
    return 2
