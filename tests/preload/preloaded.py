# SPDX-License-Identifier: MIT
"""Programs under ``slabmalloc run`` on the preload library, as they are written for any Python.

Each runs in a fresh process. At its end every block must be accounted for, and every invariant hold: `SOUND` says so on
standard output, in the children that a test forks too.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap

import pytest

from forms import IS_FREE_THREADED
from programs import IN_THREADS
from slabmalloc.process import preload

pytest.importorskip("slabmalloc.process._pymem", reason="needs the native extension")

try:
    LIBRARY = preload.library()
except RuntimeError as reason:
    pytest.skip(str(reason), allow_module_level=True)

RUN = ["-m", "slabmalloc", "run", "--quiet"]
if IS_FREE_THREADED:
    RUN.append("--domains=raw")  # it could not have the others, and would say so

PRELUDE = f"""{IN_THREADS}
import ctypes, gc, os, sys, threading, time
import slabmalloc
from slabmalloc.process import _pymem

assert _pymem.form() == "preload"

def sound():
    assert _pymem.audit() is None, _pymem.audit()
    assert slabmalloc.stats().conserved, slabmalloc.stats()

def wait_for(child):
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
"""
SOUND = "\nsound()\nprint('sound')\n"


def not_served(cause: str, subject: str = "obj and mem are") -> str:
    """What is said where `cause` has CPython replace our domains by its own."""
    remedy = "leave it out, or have them served in process (--in-process, SLABMALLOC=in-process)"
    return f"slabmalloc: {subject} not served: {cause} has Python use allocators of its own; {remedy}\n"


def by_malloc(cause: str) -> str:
    """What is said where `cause` has CPython ask malloc for all."""
    return (
        f"slabmalloc: obj and mem are served by malloc alone: {cause} has Python ask it for everything; leave it out\n"
    )


def run(
    program: str,
    *options: str,
    under: tuple[str, ...] = (),
    limit: int | None = None,
    data: int | None = None,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """`options`: the interpreter's, `under`: the run's; `limit` and `data`: of addresses, of writable memory."""

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        if data is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (data, data))

    command = [sys.executable, *options, *RUN, *under, "-c", PRELUDE + textwrap.dedent(program) + SOUND]
    environment = {**os.environ, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, preexec_fn=prepare)


def check(
    program: str,
    *options: str,
    under: tuple[str, ...] = (),
    limit: int | None = None,
    data: int | None = None,
    errors: str | None = "",
    **variables: str,
) -> str:
    """The same; the program must come to its end, without a word on standard error unless `errors` is None."""
    done = run(program, *options, under=under, limit=limit, data=data, **variables)
    assert done.returncode == 0, done.stderr
    assert errors is None or done.stderr == errors
    output, end, rest = done.stdout.rpartition("sound\n")
    assert (end, rest) == ("sound\n", ""), done.stdout
    return output
