# SPDX-License-Identifier: MIT
"""The options of ``slabmalloc run`` by argparse (floor 6): their help, and what is not plain flags and a program."""

from __future__ import annotations

import argparse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["parser"]


def parser() -> argparse.ArgumentParser:
    """Reads the words into a namespace that has the defaults."""
    words = _Parser(
        prog="slabmalloc run",
        usage="slabmalloc run [options] [-m MODULE | -c CODE | SCRIPT | -] [arguments...]",
        description="Runs a program as python does, with the memory of CPython, NumPy and C extensions on slabmalloc.",
        epilog="The environment variables SLABMALLOC_DECAY_MS (milliseconds), SLABMALLOC_CACHE_BYTES, "
        "SLABMALLOC_RESERVE (bytes), SLABMALLOC_HARDENED (1), SLABMALLOC_HUGE_PAGES (1), SLABMALLOC_CLASSES and "
        "SLABMALLOC_DOMAINS say the same, also where the library is preloaded by other means; an option comes first. "
        "Options of the interpreter come before: python -X dev -m slabmalloc run ...",
        allow_abbrev=False,
    )
    rest = argparse.REMAINDER
    words.add_argument("-m", dest="module", nargs=rest, metavar="...", help="run a module, as python -m does")
    words.add_argument("-c", dest="command", nargs=rest, metavar="...", help="run the code given, as python -c does")
    words.add_argument(
        "script", nargs=rest, metavar="...", help="run a script, directory or archive (-: standard input)"
    )
    words.add_argument(
        "--domains",
        metavar="LIST",
        help="which of CPython's domains to serve besides malloc (default: obj,mem,raw; in process numpy too)",
    )
    words.add_argument(
        "--decay",
        type=_seconds,
        metavar="SECONDS",
        help="give memory back when it has rested so long; 0: at once (default: 1)",
    )
    words.add_argument(
        "--cache",
        type=_mebibytes,
        metavar="MIB",
        help="let freed blocks above 128 KiB rest up to so much, or an eighth of what is live (default: 64)",
    )
    words.add_argument(
        "--reserve", type=_mebibytes, metavar="MIB", help="address space to begin with (default: 65536, if granted)"
    )
    words.add_argument(
        "--hardened",
        action="store_true",
        help="find overflows and writes after free too, for several times the time of an allocation (default: no)",
    )
    words.add_argument(
        "--huge-pages",
        action="store_true",
        help="put memory into transparent huge pages; it goes back by whole ones alone (default: no)",
    )
    words.add_argument(
        "--classes",
        metavar="SPEC",
        help="size classes: default, powers-of-two, geometric:N, or multiples of 16 with commas (default: default)",
    )
    words.add_argument(
        "--no-children", action="store_true", help="programs that this one starts run without slabmalloc"
    )
    words.add_argument(
        "--in-process",
        action="store_true",
        help="serve CPython's domains and NumPy's data, behind hooks in this interpreter, instead of preloading",
    )
    words.add_argument("--quiet", action="store_true", help="no summary at the end")
    words.add_argument("--json", action="store_true", help="the summary as JSON")
    words.add_argument(
        "--summary",
        default="-",
        metavar="FILE",
        help="write the summary to FILE (default: standard error; json: there, as JSON)",
    )
    return words


class _Parser(argparse.ArgumentParser):
    """Of options that it does not know some are the interpreter's."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: -"):
            message += "; options of the interpreter come before: python -X dev -m slabmalloc run ..."
        super().error(message)


def _number(text: str) -> float:
    """Not a number where the text is none: that is in no range."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _seconds(text: str) -> int:
    """Milliseconds."""
    value = _number(text)
    if not 0 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds from 0 to 1,000,000")
    return round(value * 1000)


def _mebibytes(text: str) -> int:
    """Bytes."""
    value = _number(text)
    if not 0 <= value <= 1 << 30:
        raise argparse.ArgumentTypeError(f"{text} is no number of MiB from 0 to {1 << 30:,}")
    return round(value * 2**20)
