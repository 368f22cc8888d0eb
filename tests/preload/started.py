# SPDX-License-Identifier: MIT
"""Programs in an environment that has SLABMALLOC set, in fresh processes, and beside stock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import preloaded  # noqa: F401 - it skips where there is no library
import pytest

import slabmalloc
from forms import IS_FREE_THREADED, needs_domains
from slabmalloc.process import start_file

PACKAGE = Path(slabmalloc.__file__).parent
START_FILE = PACKAGE.parent / start_file.NAME
IN_PROCESS = pytest.param("in-process", marks=needs_domains)

# What a program sees of the way it was started; the last line tells who serves it.
PLACE = """
import os, signal, sys
print(__name__, globals().get("__file__"), sys.argv, sys.orig_argv, os.getcwd())
print(sys.executable, sys.prefix, sys.path, sys.flags, sys.warnoptions, sys._xoptions)
print([(stream.encoding, stream.errors) for stream in (sys.stdin, sys.stdout, sys.stderr)], sys.getfilesystemencoding())
print(sorted(item for item in os.environ.items() if item[0] not in ("LD_PRELOAD", "SLABMALLOC")))
print([(int(number), signal.getsignal(number)) for number in sorted(signal.valid_signals())])
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), sorted(os.listdir("/proc/self/fd")), open("/proc/self/comm").read())
"""
SERVED = """
def served():
    from slabmalloc.process import preload, stats
    return "preload" if preload.is_preloaded() else "in process" if stats().domains else "stock"
"""
TELL = SERVED + "print(served())\n"
PROGRAM = PLACE + TELL


def environment(value: str | None = "preload", **variables: str) -> dict[str, str]:
    base = {name: text for name, text in os.environ.items() if not name.startswith(("SLABMALLOC", "LD_PRELOAD", "LC_"))}
    if IS_FREE_THREADED:
        base["SLABMALLOC_DOMAINS"] = "none"  # it could have none of them, and would say so
    return {**base, **variables, **({} if value is None else {"SLABMALLOC": value})}


def start(
    *arguments: str, value: str | None = "preload", python: str | Path = sys.executable, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Runs ``python arguments...`` with the variable set to `value` (None: not set)."""
    env = environment(value, **settings.pop("variables", {}))
    settings = {"input": "", "capture_output": True, **settings}
    return subprocess.run([str(python), *arguments], env=env, text=True, timeout=120, **settings)


def assert_same(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Runs it on stock and with the variable; both end alike. Returns how."""
    stock, ours = (start(*arguments, value=value, **settings) for value in (None, "preload"))
    told = {"stock": "stock", "preload": "preload"}
    for done, form in zip((stock, ours), told, strict=True):
        done.stdout, told[form], _ = done.stdout.rpartition(f"{form}\n")
    assert (ours.stdout, ours.stderr, ours.returncode) == (stock.stdout, stock.stderr, stock.returncode)
    assert told == {"stock": "stock\n", "preload": "preload\n"}
    return ours


def make_environment(folder: Path, *options: str, has_package: bool = True) -> Path:
    """A virtual environment with the start-up file, and the package if wanted; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", *options, str(folder)], check=True, timeout=60)
    packages = next(folder.glob("lib/python*/site-packages"))
    shutil.copy(START_FILE, packages)
    if has_package:
        (packages / "a.pth").write_text(f"{PACKAGE.parent}\n")
    return folder / "bin" / "python"
