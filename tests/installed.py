# SPDX-License-Identifier: MIT
"""Programs that install slabmalloc, in the wrapper form: it lasts until a process ends, so each has one of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from programs import IN_THREADS

pytest.importorskip("slabmalloc.process._pymem", reason="needs the native extension")

PRELUDE = """
import ctypes, gc, os, sys, threading, time
import slabmalloc
from slabmalloc.process import _pymem, stats

def declare(name, *arguments, result=ctypes.c_void_p):
    function = getattr(ctypes.pythonapi, name)
    function.argtypes, function.restype = arguments, result
    return function

size, pointer = ctypes.c_size_t, ctypes.c_void_p
malloc, realloc, calloc, free = {}, {}, {}, {}
for domain, prefix in (("obj", "PyObject_"), ("mem", "PyMem_"), ("raw", "PyMem_Raw")):
    malloc[domain] = declare(prefix + "Malloc", size)
    calloc[domain] = declare(prefix + "Calloc", size, size)
    realloc[domain] = declare(prefix + "Realloc", pointer, size)
    free[domain] = declare(prefix + "Free", pointer, result=None)

def is_sound():
    # A thread that was joined may not have ended yet: of what it frees meanwhile the balance is taken once more.
    assert _pymem.audit() is None, _pymem.audit()
    deadline = time.monotonic() + 10
    while not (told := stats()).conserved and time.monotonic() < deadline:
        time.sleep(0.01)
    assert told.conserved, told
"""
PRELUDE += IN_THREADS


def run(program: str, *options: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Runs the program, `PRELUDE` first, in an interpreter of its own."""
    command = [sys.executable, *options, "-c", PRELUDE + textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **settings)  # type: ignore[call-overload, no-any-return]


def check(program: str, *options: str, **settings: object) -> str:
    """As `run`; the program must end well. Returns its output."""
    done = run(program, *options, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout
