# SPDX-License-Identifier: MIT
"""Other allocators of this machine (floor 6): what is preloaded in the place of the C library's `malloc`.

They are those that the dynamic linker knows under the names that distributions give them (Debian: libjemalloc2,
libmimalloc2.0, libtcmalloc-minimal4), or their own builds do (libhardened_malloc.so, libmimalloc-secure.so). More come
by ``--peer NAME=PATH``. No path is written here.
"""

from __future__ import annotations

import argparse
import ctypes.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HARDENED_MALLOC", "HARDENED_PEERS", "PACKAGES", "Peer", "advice", "c_library", "find_peers", "given"]

HARDENED_MALLOC, MIMALLOC_SECURE = "hardened_malloc", "mimalloc-secure"
HARDENED_PEERS = (HARDENED_MALLOC, MIMALLOC_SECURE)
"""Peers that the hardened mode is compared with, and nobody else: they pay for what others don't do."""

_STEMS = {
    "jemalloc": ("jemalloc",),
    "mimalloc": ("mimalloc",),
    "tcmalloc": ("tcmalloc_minimal", "tcmalloc"),
    HARDENED_MALLOC: ("hardened_malloc",),
    MIMALLOC_SECURE: ("mimalloc-secure",),
}

PACKAGES = "libjemalloc2 libmimalloc2.0 libtcmalloc-minimal4"
"""Where Debian has the peers that are looked for."""

_VERSION = """
import ctypes
text = ctypes.c_char_p()
library, size = ctypes.CDLL(None), ctypes.c_size_t(ctypes.sizeof(text))
if hasattr(library, "mallctl") and not library.mallctl(b"version", ctypes.byref(text), ctypes.byref(size), None, 0):
    print(text.value.decode().partition("-")[0])
elif hasattr(library, "mi_version"):
    digits = str(library.mi_version())  # a digit for the major number; one, later two for each of the others
    each = (len(digits) - 1) // 2
    print(f"{digits[0]}.{int(digits[1:1 + each])}.{int(digits[1 + each:])}")
elif hasattr(library, "tc_version"):
    library.tc_version.restype = ctypes.c_char_p
    print(library.tc_version(None, None, None).decode().removeprefix("gperftools "))
"""
"""Asks the library that is preloaded: each of the known ones tells its version in a way of its own."""


@dataclass(frozen=True)
class Peer:
    """`preload` is a soname or a path; `version` is for the record."""

    name: str
    preload: str
    version: str


def given(word: str) -> Peer:
    """The peer that NAME=PATH means, as the type of an argument.

    >>> given("mine")
    Traceback (most recent call last):
        ...
    argparse.ArgumentTypeError: 'mine': want NAME=PATH, as in mimalloc=/usr/local/lib/libmimalloc.so
    """
    name, equals, path = word.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{word!r}: want NAME=PATH, as in mimalloc=/usr/local/lib/libmimalloc.so")
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{word!r}: there is no file {path}; give the path of a shared library")
    library = Path(path).resolve()
    if any(character in str(library) for character in ": "):
        raise argparse.ArgumentTypeError(f"{word!r}: the dynamic linker takes ':' and ' ' for ends of a path")
    return Peer(name, str(library), _version(str(library), library.name))


def find_peers(extra: Sequence[Peer] = ()) -> tuple[list[Peer], list[str]]:
    """The peers of this machine, and `extra` (one of a known name instead of that one); names of those missing."""
    peers, missing = {}, []
    chosen = {peer.name for peer in extra}
    for name, stems in _STEMS.items():
        soname = next(filter(None, map(ctypes.util.find_library, stems)), None)
        if name in chosen:
            continue
        if soname:
            peers[name] = Peer(name, soname, _version(soname, soname))
        else:
            missing.append(name)
    return [*peers.values(), *extra], missing


def advice(name: str) -> str:
    """What may help if the peer crashes; nothing if nothing is known.

    >>> advice("jemalloc")
    ''
    """
    if name != HARDENED_MALLOC:
        return ""
    try:
        limit = Path("/proc/sys/vm/max_map_count").read_text().strip()
    except OSError:
        limit = "unknown"
    return (
        "hardened_malloc has guards between its slabs, which are many mappings: if it fails, vm.max_map_count may be "
        f"too low (here {limit}; its documentation sets 1048576)"
    )


def c_library() -> str:
    """Name and version of the C library."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "unknown"
    except (ValueError, OSError):
        return "unknown"


def _version(preload: str, otherwise: str) -> str:
    environment = {**os.environ, "LD_PRELOAD": preload, "PYTHONMALLOC": "pymalloc"}
    words = [sys.executable, "-S", "-E", "-c", _VERSION]
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return otherwise
    return (done.returncode == 0 and done.stdout.strip()) or otherwise
