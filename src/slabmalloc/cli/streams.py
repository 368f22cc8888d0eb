# SPDX-License-Identifier: MIT
"""What the command line itself writes, to whom it may concern (floor 6)."""

from __future__ import annotations

import os
import sys
from errno import EDQUOT, EFBIG, EIO, ENOSPC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Result = TypeVar("Result")

__all__ = ["while_read"]

SIGPIPE_STATUS = 128 + 13
"""What a shell says of a program that SIGPIPE has ended."""

_UNWRITABLE = (ENOSPC, EDQUOT, EFBIG, EIO)


def while_read(speak: Callable[[], Result]) -> Result:
    """Calls `speak`, and sees off what it wrote.

    SystemExit, and not a word, if whoever read it has gone; with a line, if it can't be written.
    Only for what writes nothing but our own words: a program's broken pipes are its own.
    """
    try:
        try:
            return speak()
        finally:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:  # it is closed
                    stream.flush()
    except BrokenPipeError:
        _drop_what_is_left()
        raise SystemExit(SIGPIPE_STATUS) from None
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _drop_what_is_left()
        raise SystemExit(f"slabmalloc: can't write: {error.strerror}") from None


def _drop_what_is_left() -> None:
    """Else the interpreter tries once more to write it, at its end, and complains."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
