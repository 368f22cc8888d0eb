# SPDX-License-Identifier: MIT
"""The words of ``python OPTIONS... PROGRAM ARGUMENTS...``, taken apart as CPython's getopt does it (floor 5).

Letters share a word (-uB), values stand in it or in the next one (-Xdev, -X dev), and so does the program of -m and -c
(-um NAME). Nothing is refused here: an interpreter of a later release may know more.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from typing import Final

    Option = tuple[str, str | None]
    """A letter with its value; None: it takes none, or there is no word left."""

__all__ = ["FLAGS", "WITH_VALUE", "CommandLine", "is_known"]

FLAGS: Final = "bBdEiIOPqRsSuvx"
"""The letters that say how a program is run and take no value, in CPython 3.11 to 3.15."""

WITH_VALUE: Final = "WX"
_PROGRAM: Final = "cm"
_LONG_WITH_VALUE: Final = ("--check-hash-based-pycs",)


class CommandLine:
    """Up to the program, behind which everything is the program's.

    >>> line = CommandLine(["-uXdev", "--quiet", "-Om", "pytest", "-x"])
    >>> line.options, line.long, line.program
    ([('u', None), ('X', 'dev'), ('O', None)], ['--quiet'], ['-m', 'pytest', '-x'])
    """

    options: list[Option]
    """What the letters in front of the program say; the program's own is there if nothing is behind it."""

    long: list[str]
    """The words of long options, with their values."""

    short: list[str]
    """The words of the letters, without the program's own letter: of ``-um NAME`` it is ``-u``."""

    words: list[str]
    """All but the long options, as they were given, program and arguments included."""

    program: list[str]
    """``-m NAME``, ``-c CODE``, ``-``, a script or ``--`` and a script, with the arguments; empty: there is none."""

    def __init__(self, words: Sequence[str], long_with_value: Container[str] = _LONG_WITH_VALUE) -> None:
        self.options, self.long, self.short, at = [], [], [], 0
        while at < len(words) and words[at].startswith("-") and words[at] not in ("-", "--"):
            if words[at].startswith("--"):
                length = 2 if words[at] in long_with_value else 1
                self.long += words[at : at + length]
            else:
                found, length = _read(words[at : at + 2])
                letter, value = found[-1]
                if letter in _PROGRAM:
                    self.words = [*self.short, *words[at:]]
                    self.options += found if value is None else found[:-1]
                    self.short += ["-" + "".join(flag for flag, _ in found[:-1])] if len(found) > 1 else []
                    self.program = [] if value is None else [f"-{letter}", value, *words[at + length :]]
                    return
                self.options += found
                self.short += words[at : at + length]
            at += length
        self.words, self.program = [*self.short, *words[at:]], [*words[at:]]


def is_known(option: Option) -> bool:
    """True for one of those that say how a program is run, with its value if it takes one."""
    letter, value = option
    return letter in FLAGS or (letter in WITH_VALUE and value is not None)


def _read(words: Sequence[str]) -> tuple[list[Option], int]:
    """The options in the first word, of which the next may be a value, and how many words these are."""
    found: list[Option] = []
    for place, letter in enumerate(words[0][1:], 2):
        if letter in WITH_VALUE or letter in _PROGRAM:
            value = words[0][place:] or (words[1] if len(words) > 1 else None)
            return [*found, (letter, value)], 1 if words[0][place:] else 2
        found.append((letter, None))
    return found, 1
