# SPDX-License-Identifier: MIT
"""How long single calls of the allocator take, while most of a large heap is dropped and after: c/pauses.c, in here."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "c" / "pauses.c"
KIB, MIB = 1 << 10, 1 << 20
IN_ORDER, OTHER_BUILDS, OTHER_DROPS = 1, 2, 4
MIXED, LARGE, ARRAYS = (0, 512, 8 * KIB, 128 * KIB, 4 * MIB), (128 * KIB, 4 * MIB), (MIB, 64 * MIB)

PATTERNS = (
    ("objects", (0, 512, 4 * KIB), 0, 10),
    ("malloc", MIXED, 0, 10),
    ("malloc", MIXED, IN_ORDER, 10),
    ("malloc", MIXED, OTHER_DROPS, 10),
    ("malloc", MIXED, OTHER_BUILDS, 10),
    ("malloc", LARGE, 0, 10),
    ("arrays", ARRAYS, 0, 0),
    ("malloc", ARRAYS, 0, 0),
)
"""Whose calls, bounds of the blocks' sizes, how they are built and dropped, and how many of a thousand stay."""


class Allocator(ctypes.Structure):
    """As in pauses.c."""

    _fields_ = (("allocate", ctypes.c_void_p), ("deallocate", ctypes.c_void_p), ("advises", ctypes.c_int))


class Pauses(ctypes.Structure):
    """As in pauses.c."""

    _fields_ = (
        ("p50_ns", ctypes.c_double),
        ("p999_us", ctypes.c_double),
        ("longest_ms", ctypes.c_double),
        ("longest_small_ms", ctypes.c_double),
        ("calls", ctypes.c_uint64),
        ("longest_call", ctypes.c_char * 64),
    )


def library() -> ctypes.PyDLL:
    """pauses.c, compiled; the interpreter lock is held in its calls, as objects need it."""
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder, "pauses.so"))
        compiler = shlex.split(os.environ.get("CC", "cc"))
        subprocess.run([*compiler, "-O2", "-shared", "-fPIC", "-pthread", str(SOURCE), "-o", target], check=True)
        return ctypes.PyDLL(target)


def run(pattern: int, mebibytes: int, milliseconds: int) -> dict[str, float | str]:
    """A heap of so many MiB; a little work for so long when most of it is gone."""
    whose, bounds, how, kept = PATTERNS[pattern]
    compiled = library()
    if whose == "objects":
        functions = ctypes.pythonapi.PyObject_Malloc, ctypes.pythonapi.PyObject_Free
        allocator = Allocator(*(ctypes.cast(function, ctypes.c_void_p) for function in functions))
    else:
        compiled.pauses_malloc.restype = Allocator
        allocator = compiled.pauses_malloc(whose == "arrays")
    measure = compiled.pauses_measure
    size, address = ctypes.c_size_t, ctypes.c_void_p
    measure.argtypes = [address, size, address, size, ctypes.c_int, ctypes.c_uint, ctypes.c_long, address]
    sizes, told = (size * len(bounds))(*bounds), Pauses()
    kinds = len(bounds) - 1
    if not measure(ctypes.byref(allocator), mebibytes * MIB, sizes, kinds, how, kept, milliseconds, ctypes.byref(told)):
        raise MemoryError
    return {
        "result": told.calls,
        "p50_ns": told.p50_ns,
        "p999_us": told.p999_us,
        "longest_ms": told.longest_ms,
        "longest_small_ms": told.longest_small_ms,
        "longest_call": told.longest_call.decode(),
    }
