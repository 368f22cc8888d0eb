# SPDX-License-Identifier: MIT
"""What the environment variable SLABMALLOC asks for, before a program begins (floor 5).

The start-up file `slabmalloc.pth` calls `begin` in every interpreter that finds the variable set: the process starts
anew on the preload library, with its own command line, or this interpreter gets hooks. Whatever can't be done is said
in one line, and the program goes on as on stock. A program's start waits for what is imported here.
"""

from __future__ import annotations

import os
import sys

from slabmalloc.switches import OFF, is_on

from . import preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["NAME", "VARIABLE", "begin", "outcome"]

NAME: Final = "slabmalloc.pth"
VARIABLE: Final = "SLABMALLOC"
_PRELOAD, _IN_PROCESS = ("preload", "1"), "in-process"
_MARK: Final = f"{VARIABLE}_START_PID"
"""The process that started anew on the library: it is not tried twice, whatever came of it."""

_RUN_MARK: Final = f"{VARIABLE}_RUN_PID"
"""The process that became one on the library, which takes the variable away: it stays where that was not loaded, and
where a program loads its interpreter later."""

_SUMMARY: Final = (f"{VARIABLE}_SUMMARY", f"{VARIABLE}_SUMMARY_JSON")

outcome: str | None = None
"""What `begin` did in this process, or what it said; None: it had nothing to do."""


def begin() -> None:
    """Does what the variable asks for, once in a process; a sub-interpreter has what its main interpreter has.

    Says it where ``slabmalloc run`` started the process and the library did not come with it.

    >>> begin()  # the variable isn't set
    >>> outcome
    """
    global outcome
    wanted = os.environ.get(VARIABLE, "")
    is_left = os.environ.get(_RUN_MARK) == str(os.getpid())
    if outcome is not None or (wanted.lower() in OFF and not is_left) or not _is_main_interpreter():
        return
    if is_left and preload.is_preloaded():
        for name in (_RUN_MARK, *_SUMMARY):
            os.environ.pop(name, None)
        outcome = preload.say(
            "obj, mem and raw are served by malloc alone: this process became an interpreter too late"
        )
        return
    if wanted.lower() in OFF:
        outcome = preload.say(f"nothing is served: {_why_not_loaded()}")
        _leave_it()
        return
    try:
        outcome = _begin(wanted, is_second=os.environ.pop(_MARK, "") == str(os.getpid()))
    except (OSError, RuntimeError) as error:
        outcome = preload.say(f"{VARIABLE}={wanted} has no effect: {error}")
    if is_on("SLABMALLOC_NO_CHILDREN"):
        os.environ.pop(VARIABLE, None)


def _begin(wanted: str, is_second: bool) -> str:
    """OSError, RuntimeError: it can't be done."""
    if preload.is_preloaded():  # of a value that is not known the process that became this one has spoken
        return "started anew on the preload library" if is_second else "on the preload library already"
    if wanted != _IN_PROCESS and wanted not in _PRELOAD:
        return preload.say(
            f"{VARIABLE}={wanted!r} is not known; there are: preload (or 1), {_IN_PROCESS}, 0; nothing is done"
        )
    if is_second:
        reason = _why_not_loaded()
        _leave_it()
        raise RuntimeError(reason)
    if not _is_before_program():
        raise RuntimeError("the program runs already, and reads start-up files only now")
    if wanted == _IN_PROCESS:
        return _install()
    obstacle = _why_not_repeatable()
    if obstacle is None:
        preload.replace_process(sys.orig_argv[1:], [], _settings())
    done = _install()
    preload.say(f"{VARIABLE}={wanted}: nothing is preloaded, but served in process: {obstacle}")
    return f"{done}: {obstacle}"


def _settings() -> dict[str, str]:
    settings = {_MARK: str(os.getpid())}
    summary = os.environ.get("SLABMALLOC_SUMMARY", "")
    if summary not in ("", "-"):
        settings["SLABMALLOC_SUMMARY"] = os.path.abspath(summary)  # noqa: PTH100 - it starts quicker
    return settings


def _install() -> str:
    """The wrapper form, by the library's variables; those that are for this process alone leave the environment."""
    from .domains import DOMAINS, domains_of_variable
    from .domains import VARIABLE as DOMAINS_VARIABLE
    from .in_process import begin as begin_in_process

    wanted = os.environ.get(DOMAINS_VARIABLE, "")
    domains = domains_of_variable(wanted, is_preload=False, is_told=True)
    if not domains:
        raise RuntimeError(
            f"{DOMAINS_VARIABLE}={wanted!r} leaves nothing to serve in process; name some of {', '.join(DOMAINS)}"
        )
    as_json = is_on("SLABMALLOC_SUMMARY_JSON")
    summary = os.environ.pop("SLABMALLOC_SUMMARY", "")
    os.environ.pop("SLABMALLOC_SUMMARY_JSON", None)
    path = None if summary == "-" else os.path.abspath(summary)  # noqa: PTH100
    begin_in_process(domains, (path, as_json) if summary else None)
    return "served in process"


def _leave_it() -> None:
    """Takes out of the environment what the attempt left there, so that children don't try in vain as well."""
    for name in (VARIABLE, _RUN_MARK, *_SUMMARY):
        os.environ.pop(name, None)
    others = [entry for entry in os.environ.pop("LD_PRELOAD", "").split(":") if entry != preload.library()]
    if any(others):
        os.environ["LD_PRELOAD"] = ":".join(others)


def _why_not_loaded() -> str:
    library = preload.library()
    end = f" {os.path.realpath(library)}\n"
    with open("/proc/self/maps") as file:  # noqa: PTH123 - a str does
        is_loaded = any(line.endswith(end) for line in file)
    if is_loaded:
        return f"{library} is loaded, but the extension beside it is not made for it; install slabmalloc anew"
    return f"the dynamic linker did not load {library}; {preload.WITHOUT_PRELOAD}"


def _why_not_repeatable() -> str | None:
    """Why this process can't start anew with its own command line; None: it is plainly an interpreter that can."""
    program = os.readlink("/proc/self/exe")  # noqa: PTH115 - a str does
    with open("/proc/self/cmdline", "rb") as file:  # noqa: PTH123
        words = file.read().split(b"\0")[:-1]
    is_interpreter = os.path.basename(program).startswith("python")  # noqa: PTH119
    if not is_interpreter or not sys.executable or not os.path.samefile(sys.executable, program):  # noqa: PTH121
        return f"{program} is not the interpreter's own program"
    if words != [os.fsencode(word) for word in sys.orig_argv]:
        return "the interpreter's command line is not the process's"
    return None


def _is_before_program() -> bool:
    """Is the interpreter still at its start, where it imports `site`? A program may have start-up files read later."""
    spec = getattr(sys.modules.get("site"), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def _is_main_interpreter() -> bool:
    for name in ("_interpreters", "_xxsubinterpreters"):  # from 3.13 on, and before
        try:
            interpreters = __import__(name)
        except ImportError:
            continue
        return bool(interpreters.get_current() == interpreters.get_main())
    return True
