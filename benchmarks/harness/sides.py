# SPDX-License-Identifier: MIT
"""Who is measured: a side is a program, its words, and what is preloaded.

The peers are the C library and what the dynamic linker knows under the names that distributions give them (Debian:
libjemalloc2, libmimalloc2.0, libtcmalloc-minimal4). More come by `--peer NAME=PATH`. No path is written here.
"""

from __future__ import annotations

import ctypes.util
import os
from dataclasses import dataclass
from pathlib import Path

GLIBC = "C library"
PRELOAD_LIBRARY = "libslabmalloc.so"

_KNOWN_PEERS = {"jemalloc": ("jemalloc",), "mimalloc": ("mimalloc",), "tcmalloc": ("tcmalloc_minimal", "tcmalloc")}
_PAGES_64K = "pages=65536"

OURS: dict[str, tuple[str, tuple[str, ...]]] = {
    "class": ("bench_sc", ()),
    "class, owned": ("bench_sc_owned", ()),
    "zone": ("bench_zone", ()),
    "zone, owned": ("bench_zone_owned", ()),
    "zone, 64 KiB": ("bench_zone", (_PAGES_64K,)),
    "zone, 64 KiB apart": ("bench_zone", (_PAGES_64K, "apart=1")),
    "malloc": ("bench_malloc", ()),
}
"""Our sides by name: the program and its words. `owned`: the caller vouches that it is the owner. `apart`: bitmaps
beside the pages. `malloc`: the preload library."""


@dataclass(frozen=True)
class Side:
    """One allocator as one program. `preload` is a soname or a path, or empty; `version` is for the record."""

    name: str
    program: str
    words: tuple[str, ...] = ()
    preload: str = ""
    version: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes."""
        return dict(os.environ, LD_PRELOAD=self.preload)


def our_side(name: str, programs: Path) -> Side:
    """One of `OURS`, built in the folder `programs`."""
    program, words = OURS[name]
    return Side(name, program, words, preload=str(programs / PRELOAD_LIBRARY) if name == "malloc" else "")


def find_peers(extra: list[str]) -> tuple[list[Side], list[str]]:
    """The peers of this machine and of `extra` (each NAME=PATH), and the names of the known ones that are missing."""
    peers, missing = [Side(GLIBC, "bench_malloc", version=_glibc_version())], []
    for name, stems in _KNOWN_PEERS.items():
        sonames = [soname for stem in stems if (soname := ctypes.util.find_library(stem))]
        if sonames:
            peers.append(Side(name, "bench_malloc", preload=sonames[0], version=sonames[0]))
        else:
            missing.append(name)
    for word in extra:
        name, _, path = word.partition("=")
        if not path or not Path(path).is_file():
            raise SystemExit(f"--peer {word}: want NAME=PATH of a shared library")
        peers = [peer for peer in peers if peer.name != name]  # one of the same name is replaced
        peers.append(Side(name, "bench_malloc", preload=str(Path(path).resolve()), version=Path(path).resolve().name))
    return peers, missing


def _glibc_version() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "unknown"
    except (ValueError, OSError):
        return "unknown"
