# SPDX-License-Identifier: MIT
"""The command line (floor 6): ``slabmalloc VERB ...``, one file per verb.

A verb is a module of this package with a function ``main(arguments) -> int``, the exit status. Only the verb that is
asked for is imported: ``run`` must not load what its program does not need.
"""

from __future__ import annotations

import importlib
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["VERBS", "main"]

VERBS = {
    "run": "run a program on slabmalloc and say what it did",
    "doctor": "what this machine and this interpreter offer",
    "bench": "stock, slabmalloc and its peers on this machine: a table and a page",
}
"""Each verb with what it does, in a line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the verb that `arguments` (default: the command line's) names; returns the exit status.

    >>> main(["--version"])  # doctest: +ELLIPSIS
    slabmalloc ...
    0
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["run"]:  # what the program writes and raises is its own
        return _main_of("run")(given[1:])
    from .streams import while_read

    return while_read(lambda: _carry_out(given))


def _carry_out(given: Sequence[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        print(_usage(), file=sys.stdout if given else sys.stderr)
        return 0 if given else 2
    if given[0] in ("-V", "--version"):
        from .doctor import version

        print("slabmalloc", version())
        return 0
    verb, *rest = given
    if verb not in VERBS:
        print(f"slabmalloc: {verb!r} is not a verb{_guess(verb)}; there are: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    return _main_of(verb)(rest)


def _main_of(verb: str) -> Callable[[Sequence[str]], int]:
    main: Callable[[Sequence[str]], int] = importlib.import_module(f"slabmalloc.cli.{verb}").main
    return main


def _usage() -> str:
    verbs = "\n".join(f"  {verb:<8}{purpose}" for verb, purpose in VERBS.items())
    return f"usage: slabmalloc VERB [OPTIONS...]\n\nverbs:\n{verbs}\n\n`slabmalloc VERB --help` tells a verb's options."


def _guess(verb: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(verb, VERBS, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
