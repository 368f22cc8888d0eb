# SPDX-License-Identifier: MIT
"""Runs a program in this interpreter as ``python`` would (floor 5): a script, a module, a command or standard input.

The program gets `sys.argv`, `sys.path[0]` and a `__main__` of its own, as CPython's Modules/main.c sets them up.
Whatever it raises goes on to the interpreter, which alone knows what an exit status is; only our frames are taken
off the traceback on the way. So SystemExit, unhandled exceptions, KeyboardInterrupt and ``python -i`` end as they do
without us.
"""

from __future__ import annotations

import io
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from pkgutil import get_importer
from types import CodeType, ModuleType, TracebackType

__all__ = ["Program", "load_command", "load_module", "load_script", "load_stdin"]

Program = Callable[[], None]
"""Runs the program that was loaded, and raises what it raises. To be called once, at the bottom of the stack."""


def load_script(path: str, arguments: Sequence[str]) -> Program:
    """``python path arguments...``; a directory or an archive runs the `__main__` in it. OSError: it can't be read."""
    location = os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118 - and no more than that: CPython leaves "./" in
    if get_importer(location) is not None:  # directories and archives belong to the import system
        _set_path(location, always=True)
        _begin([path, *arguments])
        return lambda: _execute(lambda: _run_as_main("__main__", alter_argv=False))
    with io.open_code(location) as file:
        source = file.read()
    _set_path(str(Path(path).resolve().parent))
    module = _begin([path, *arguments], location)
    if location.endswith(".pyc"):
        module.__loader__ = loader = SourcelessFileLoader("__main__", location)
        return lambda: _execute(lambda: _run(loader.get_code("__main__"), module))
    module.__loader__ = SourceFileLoader("__main__", location)
    return lambda: _execute(lambda: _run(_compile(source, location), module))


def load_module(name: str, arguments: Sequence[str]) -> Program:
    """``python -m name arguments...``; the call raises SystemExit with a message if there is no such module."""
    _set_path(str(Path.cwd()))
    _begin(["-m", *arguments])
    return lambda: _execute(lambda: _run_as_main(name, alter_argv=True))


def load_command(command: str, arguments: Sequence[str]) -> Program:
    """``python -c command arguments...``."""
    if sys.version_info >= (3, 14):
        from textwrap import dedent

        command = dedent(command)
    _set_path("")
    module = _begin(["-c", *arguments])
    return lambda: _execute(lambda: _run(_with_lines(_compile(command, "<string>"), command), module))


def load_stdin(arguments: Sequence[str]) -> Program:
    """``python - arguments...``: the program is what standard input holds."""
    source = sys.stdin.buffer.read()
    _set_path("")
    module = _begin(["-", *arguments], "<stdin>")
    return lambda: _execute(lambda: _run(_compile(source, "<stdin>"), module))


_before: list[ModuleType] = []
"""What was `__main__`, kept: its functions are still running, and need their globals."""


def _begin(argv: list[str], file: str | None = None) -> ModuleType:
    """Sets `sys.argv` and puts an empty `__main__` in place of the one that started us."""
    sys.argv[:] = argv
    module = ModuleType("__main__")
    module.__loader__ = BuiltinImporter
    names = module.__dict__
    names["__builtins__"] = sys.modules["builtins"]
    if sys.version_info < (3, 14):
        names["__annotations__"] = {}
    if file is not None:
        names["__file__"] = file
        if sys.version_info < (3, 15):
            names["__cached__"] = None
    _before.append(sys.modules["__main__"])
    sys.modules["__main__"] = module
    return module


def _set_path(entry: str, always: bool = False) -> None:
    """The program's `sys.path[0]`, in place of ours; ``-P`` and ``-I`` leave both out, but an archive needs it."""
    if not sys.flags.safe_path:
        sys.path[0] = entry
    elif always:
        sys.path.insert(0, entry)


def _compile(source: str | bytes, name: str) -> CodeType:
    return compile(source, name, "exec", dont_inherit=True)  # our own __future__ imports are not the program's


def _with_lines(code: CodeType, command: str) -> CodeType:
    """From 3.13 on tracebacks show the lines of a command, which the interpreter leaves with `linecache` this way."""
    if sys.version_info >= (3, 13):
        import linecache

        key = code if sys.version_info >= (3, 14) else code.co_filename
        linecache._register_code(key, command, code.co_filename)  # type: ignore[attr-defined]
    return code


def _run(code: CodeType | None, module: ModuleType) -> None:
    if code is None:
        raise ImportError(f"{module.__file__} holds no code")
    exec(code, module.__dict__)


def _run_as_main(name: str, *, alter_argv: bool) -> None:
    # The function that CPython's own main() calls for -m, in every release that we serve.
    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]


def _execute(program: Program) -> None:
    """Runs the program; what it raises goes on to the interpreter, announced to the hook that takes our frames off."""
    try:
        program()
    except SystemExit:
        raise
    except BaseException:
        _hide_own_frames()
        raise


def _hide_own_frames() -> None:
    """Makes the program's `sys.excepthook` see one exception, the one on its way now, as if we were not there."""
    if not hasattr(sys, "excepthook"):
        return
    hook = sys.excepthook

    def hook_without_us(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.excepthook = hook
        sys.last_traceback = trace = _without_own_frames(trace)
        try:
            hook(kind, error.with_traceback(trace), trace)
        except SystemExit:
            raise
        except BaseException as failure:  # as the interpreter does it, again without us
            print("Error in sys.excepthook:", file=sys.stderr)
            below = failure.__traceback__ and failure.__traceback__.tb_next
            sys.__excepthook__(type(failure), failure.with_traceback(below), below)
            print("\nOriginal exception was:", file=sys.stderr)
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = hook_without_us


def _without_own_frames(trace: TracebackType | None) -> TracebackType | None:
    """What is below `_execute`: the program's frames alone."""
    ours = _execute.__code__
    while trace is not None and trace.tb_frame.f_code is not ours:
        trace = trace.tb_next
    while trace is not None and trace.tb_frame.f_code.co_filename == ours.co_filename:
        trace = trace.tb_next
    return trace
