# SPDX-License-Identifier: MIT
"""Who is measured in C: a side is a program, its words, and what is preloaded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slabmalloc.bench.peers import HARDENED_PEERS, Peer, c_library

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

GLIBC = "C library"
PRELOAD_LIBRARY = "libslabmalloc.so"

_PAGES_64K = "pages=65536"

OURS: dict[str, tuple[str, tuple[str, ...]]] = {
    "class": ("bench_sc", ()),
    "class, owned": ("bench_sc_owned", ()),
    "zone": ("bench_zone", ()),
    "zone, owned": ("bench_zone_owned", ()),
    "zone, 64 KiB": ("bench_zone", (_PAGES_64K,)),
    "zone, 64 KiB apart": ("bench_zone", (_PAGES_64K, "apart=1")),
    "malloc": ("bench_malloc", ()),
    "malloc, hardened": ("bench_malloc", ()),
}
"""Our sides by name: the program and its words. `owned`: the caller vouches that it is the owner. `apart`: bitmaps
beside the pages. `malloc`: the preload library."""

_HARDENED = {"malloc, hardened": {"SLABMALLOC_HARDENED": "1"}}


@dataclass(frozen=True)
class Side:
    """One allocator as one program. `preload` is a soname or a path, or empty; `version` is for the record.

    A side that `may_fail` is then left out of the row; of any other it is a bug, and the end.
    """

    name: str
    program: str
    words: tuple[str, ...] = ()
    preload: str = ""
    version: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    may_fail: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes."""
        return {**os.environ, "LD_PRELOAD": self.preload, **self.variables}


def our_side(name: str, programs: Path) -> Side:
    """One of `OURS`, built in the folder `programs`."""
    program, words = OURS[name]
    preload = str(programs / PRELOAD_LIBRARY) if program == "bench_malloc" else ""
    return Side(name, program, words, preload, variables=_HARDENED.get(name, {}))


def peer_sides(peers: Sequence[Peer]) -> list[Side]:
    """The C library, then the peers."""
    everyone = [Peer(GLIBC, "", c_library()), *peers]
    return [
        Side(peer.name, "bench_malloc", (), peer.preload, peer.version, may_fail=peer.name in HARDENED_PEERS)
        for peer in everyone
    ]
