# SPDX-License-Identifier: MIT
"""The options of ``slabmalloc run`` by argparse (floor 6): their help, and what is not plain flags and a program."""

from __future__ import annotations

import argparse

from slabmalloc.process.command_line import FLAGS, WITH_VALUE, is_known

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from slabmalloc.process.command_line import Option

__all__ = ["read"]


def read(words: Sequence[str], letters: Sequence[Option], options: object) -> None:
    """Our own options, into `options`, which has the defaults; ends the process where they, or `letters`, are none."""
    parser = _parser()
    if any(letter in "h?" for letter, _ in letters):
        words = ["--help"]
    elif not all(map(is_known, letters)):
        parser.error(next(_fault(option) for option in letters if not is_known(option)))
    parser.parse_args(words, options)


def _fault(option: Option) -> str:
    letter, value = option
    if letter == "V":
        return "-V runs nothing: python -V tells the interpreter's version, slabmalloc -V ours"
    if letter in f"{WITH_VALUE}cm" and value is None:
        return f"argument expected for the -{letter} option"
    return f"unknown option -{letter}; the interpreter's options that are passed on to it are {_PASSED_ON}"


_PASSED_ON = f"-{' -'.join(FLAGS)} -W ARG -X ARG"


def _parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog="slabmalloc run",
        usage="slabmalloc run [options] [-m MODULE | -c CODE | SCRIPT | -] [arguments...]",
        description="Runs a program as python does, with the memory of CPython, NumPy and C extensions on slabmalloc.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
        help="which of CPython's domains to serve besides malloc; none: malloc alone "
        "(default: obj,mem,raw; in process numpy too)",
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
        help="let so much freed memory rest, large blocks and pages each, or an eighth of what is live (default: 64)",
    )
    words.add_argument(
        "--reserve",
        type=_reserve,
        metavar="MIB",
        help="addresses that the first range sets aside, 4 MiB or more, which costs no memory; others follow "
        "(default: 65536, if granted)",
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
        "--no-children", action="store_true", help="programs that this one starts run without slabmalloc (default: no)"
    )
    words.add_argument(
        "--in-process",
        action="store_true",
        help="serve CPython's domains and NumPy's data, behind hooks in this interpreter, instead of preloading "
        "(default: no)",
    )
    words.add_argument("--quiet", action="store_true", help="no summary at the end (default: no)")
    words.add_argument("--json", action="store_true", help="the summary as JSON (default: no)")
    words.add_argument(
        "--summary",
        type=_place,
        metavar="FILE",
        help="write the summary to FILE; -: to standard error, json: there too, as JSON (default: -)",
    )
    return words


_VARIABLES = {
    "SLABMALLOC": "preload, in-process: every Python starts so by itself (default: 0)",
    "SLABMALLOC_DOMAINS": "as --domains (default: obj,mem,raw; in process numpy too)",
    "SLABMALLOC_DECAY_MS": "as --decay, in milliseconds (default: 1000)",
    "SLABMALLOC_CACHE_BYTES": "as --cache, in bytes (default: 67108864)",
    "SLABMALLOC_RESERVE": "as --reserve, in bytes; less than 4 MiB is 4 MiB (default: 68719476736, if granted)",
    "SLABMALLOC_HARDENED": "1: as --hardened (default: 0)",
    "SLABMALLOC_HUGE_PAGES": "1: as --huge-pages (default: 0)",
    "SLABMALLOC_CLASSES": "as --classes (default: default)",
    "SLABMALLOC_NO_CHILDREN": "1: as --no-children (default: 0)",
    "SLABMALLOC_SUMMARY": "as --summary; -: standard error (default: -; with SLABMALLOC: no summary)",
    "SLABMALLOC_SUMMARY_JSON": "1: as --json (default: 0)",
    "SLABMALLOC_BACKTRACE": "1: a process that is stopped shows the C stack (default: 0)",
    "SLABMALLOC_PURE": "1: the library in plain Python, for what imports it (default: 0)",
}


def _epilog() -> str:
    variables = "\n".join(f"  {name:<25}{purpose}" for name, purpose in _VARIABLES.items())
    return (
        f"environment variables, before which options come; what is on with 1 is off when empty, 0, no, false or off:"
        f"\n{variables}\n\n"
        f"The interpreter's options are passed on to it: {_PASSED_ON}"
    )


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


def _mebibytes(text: str, least: int = 0) -> int:
    """Bytes."""
    value = _number(text)
    if not least <= value <= 1 << 30:
        raise argparse.ArgumentTypeError(f"{text} is no number of MiB from {least} to {1 << 30:,}")
    return round(value * 2**20)


def _reserve(text: str) -> int:
    """Bytes; the least is the heap's (core/heap/space.c)."""
    return _mebibytes(text, 4)


def _place(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("'' names no file; - is standard error")
    return text
