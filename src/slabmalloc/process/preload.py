# SPDX-License-Identifier: MIT
"""Becoming a program that runs on the preload library (floor 5).

The library is loaded before the interpreter starts, and serves `malloc`, CPython's three domains and NumPy's data. What
becomes of the process is told by environment variables, which `libslabmalloc.so` reads (docs/process.md has them all).
"""

from __future__ import annotations

import os
import stat
import sys

from .command_line import CommandLine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

    from .command_line import Option

__all__ = [
    "WITHOUT_PRELOAD",
    "allocator_choice",
    "environment",
    "interpreter_options",
    "is_preloaded",
    "library",
    "obstacle",
    "replace_process",
    "say",
    "why_not_served",
]

LIBRARY = "libslabmalloc.so"

WITHOUT_PRELOAD = (
    "what works without a preload is slabmalloc run --in-process or, in the environment, SLABMALLOC=in-process "
    "(docs/process.md)"
)
"""The remedy where nothing can be preloaded."""


def library() -> str:
    """Path of the preload library of this installation. RuntimeError if it has none.

    >>> os.path.basename(library())
    'libslabmalloc.so'
    """
    # os.path instead of pathlib here: a program's start waits for what is imported.
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), LIBRARY)  # noqa: PTH100, PTH118, PTH120
    if not os.path.isfile(path):  # noqa: PTH113
        raise RuntimeError(
            f"this installation of slabmalloc has no {LIBRARY}: it was installed without a C compiler; install one, "
            "then slabmalloc anew (pip install --force-reinstall --no-cache-dir)"
        )
    if any(character in path for character in ": "):
        raise RuntimeError(
            f"{path} can't be preloaded: the dynamic linker takes ':' and ' ' for ends of a path; install slabmalloc "
            f"under a path that has neither, or else: {WITHOUT_PRELOAD}"
        )
    return path


def environment(settings: Mapping[str, str], base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`base` with `settings`, and the library before all that is preloaded already.

    >>> environment({"SLABMALLOC_DECAY_MS": "0"}, {"LD_PRELOAD": "libother.so"})["LD_PRELOAD"]  # doctest: +ELLIPSIS
    '...libslabmalloc.so:libother.so'
    """
    others = [entry for entry in base.get("LD_PRELOAD", "").replace(" ", ":").split(":") if entry]
    own = library()
    return {**base, **settings, "LD_PRELOAD": ":".join([own, *(entry for entry in others if entry != own)])}


def obstacle(executable: str) -> str | None:
    """Why the dynamic linker would not preload the library into `executable`; None: nothing known.

    RuntimeError: this installation has no library.

    >>> obstacle(sys.executable) is None
    True
    """
    own = library()
    if not _is_whole(own):
        return (
            f"{own} can't be loaded: the file is damaged; install slabmalloc anew (pip install --force-reinstall "
            "--no-cache-dir)"
        )
    mode = os.stat(executable).st_mode  # noqa: PTH116 - a str does
    if mode & (stat.S_ISUID | stat.S_ISGID):
        return f"{executable} is setuid or setgid: the dynamic linker preloads nothing into it; {WITHOUT_PRELOAD}"
    if _has_capabilities(executable):
        return (
            f"{executable} has file capabilities (see getcap): the dynamic linker preloads nothing into it; "
            f"{WITHOUT_PRELOAD}"
        )
    if not _has_interpreter(executable):
        return (
            f"{executable} is statically linked: there is no dynamic linker that would preload anything into it; "
            f"{WITHOUT_PRELOAD}"
        )
    return None


def _has_capabilities(executable: str) -> bool:
    try:
        return bool(os.getxattr(executable, "security.capability"))
    except OSError:
        return False


def _is_whole(path: str) -> bool:
    """Is it an ELF file of 64 bits to its end, where the table of its sections is? A process dies of one cut short."""
    from struct import unpack_from

    with open(path, "rb") as file:  # noqa: PTH123 - a str does
        header = file.read(64)
        bytes_in_all = os.fstat(file.fileno()).st_size
    if len(header) < 64 or header[:4] != b"\x7fELF" or header[4] != 2:
        return False
    order = "<" if header[5] == 1 else ">"
    offset = unpack_from(order + "Q", header, 40)[0]
    size, count = unpack_from(order + "HH", header, 58)
    return bool(offset + size * count <= bytes_in_all)


def _has_interpreter(executable: str) -> bool:
    """Does the ELF file name a dynamic linker? True for what is no ELF file of 64 bits, a script for one."""
    from struct import unpack_from

    program_interpreter = 3
    with open(executable, "rb") as file:  # noqa: PTH123 - a str does
        header = file.read(64)
        if len(header) < 64 or header[:4] != b"\x7fELF" or header[4] != 2:
            return True
        order = "<" if header[5] == 1 else ">"
        offset = unpack_from(order + "Q", header, 32)[0]
        size, count = unpack_from(order + "HH", header, 54)
        file.seek(offset)
        table = file.read(size * count)
    kinds = [unpack_from(order + "I", table, size * number)[0] for number in range(count)]
    return program_interpreter in kinds


def is_preloaded() -> bool:
    """True in a process that runs on the preload library, as under ``slabmalloc run``.

    >>> is_preloaded()
    False
    """
    try:
        from . import _pymem
    except ImportError:  # there is no native extension, or it can't be loaded (in a sub-interpreter)
        return False
    return _pymem.form() == "preload"


def interpreter_options() -> list[str]:
    """The options that this interpreter was started with, without the program and its arguments.

    >>> isinstance(interpreter_options(), list)
    True
    """
    own = len(sys.argv) - 1  # behind the program, as the user gave them
    head = sys.orig_argv[1 : len(sys.orig_argv) - own]
    if sys.orig_argv[len(sys.orig_argv) - own :] == sys.argv[1:] and head:
        line = CommandLine(head)
        return [*line.long, *line.short]
    import subprocess

    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined, no-any-return]


def allocator_choice(options: Sequence[Option] | None = None) -> tuple[str, str] | None:
    """What has an interpreter take allocators of its own, in place of ours, when it starts: as this one did.

    The allocator's name comes first, then who asks for it. None: nothing does. `options`: of one that is yet to start.

    >>> allocator_choice()
    >>> allocator_choice([("X", "dev")])
    ('debug', 'development mode (-X dev)')
    """
    if options is None:
        ignores_environment, is_dev = sys.flags.ignore_environment, sys.flags.dev_mode
    else:
        ignores_environment = any(letter in "EI" for letter, _ in options)
        is_dev = bool(os.environ.get("PYTHONDEVMODE")) and not ignores_environment
        is_dev |= any(letter == "X" and (value or "").partition("=")[0] == "dev" for letter, value in options)
    name = "" if ignores_environment else os.environ.get("PYTHONMALLOC", "")
    if name:
        return name, f"PYTHONMALLOC={name}"
    return ("debug", "development mode (-X dev)") if is_dev else None


def why_not_served(cause: str) -> str:
    """Of `obj` and `mem`, where `cause` has Python take its own allocators; with the remedy."""
    remedy = "leave it out, or have them served in process (--in-process, SLABMALLOC=in-process)"
    return f"{cause} has Python use allocators of its own; {remedy}"


def _say_what_is_not_served(text: str, options: Sequence[Option]) -> None:
    """In a line, of the domains that `text` names and an interpreter started with `options` does not leave to us."""
    choice = allocator_choice(options)
    if choice is None or "t" in sys.abiflags:  # of a free-threaded one the library says what is to be said
        return
    from .domains import domains_of_variable

    names = [name for name in domains_of_variable(text, is_preload=True) if name in ("obj", "mem")]
    if not names:
        return
    allocator, cause = choice
    subject = " and ".join(names) + (" are" if len(names) > 1 else " is")
    if allocator.startswith("malloc"):
        say(f"{subject} served by malloc alone: {cause} has Python ask it for everything; leave it out")
    else:
        say(f"{subject} not served: {why_not_served(cause)}")


def say(text: str) -> str:
    """A line on standard error, if it can be written; returns the text."""
    try:  # noqa: SIM105 - `contextlib` costs milliseconds
        sys.stderr.write(f"slabmalloc: {text}\n")
    except (AttributeError, OSError, ValueError):  # it is closed, or full
        pass
    return text


def replace_process(options: Sequence[str], program: Sequence[str], settings: Mapping[str, str]) -> NoReturn:
    """This process becomes ``python options... program...`` on the library. RuntimeError, OSError: it can't.

    `options` are those that this interpreter was started with; `program` may begin with more of them.
    """
    reason = obstacle(sys.executable)
    if reason is not None:
        raise RuntimeError(reason)
    line = CommandLine([*options, *program])
    _say_what_is_not_served({**os.environ, **settings}.get("SLABMALLOC_DOMAINS", ""), line.options)
    settings = {**settings, "SLABMALLOC_RUN_PID": str(os.getpid())}
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it is closed
            stream.flush()
    os.execve(sys.executable, [sys.orig_argv[0], *options, *program], environment(settings, _given_environment()))


def _given_environment() -> dict[str, str]:
    """With LC_CTYPE as it was: in the C locale an interpreter sets it (PEP 538), and would take it for the user's."""
    given = dict(os.environ)
    if given.pop("LC_CTYPE", None) is not None:
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - a str does
            first = [entry[9:] for entry in file.read().split(b"\0") if entry.startswith(b"LC_CTYPE=")]
        if first:
            given["LC_CTYPE"] = os.fsdecode(first[0])
    return given
