# SPDX-License-Identifier: MIT
"""Who is measured when whole programs run (floor 6): a command is the words before the program, and an environment.

Each side is tried before anything is measured: a preload that the dynamic linker ignored, or an installation that
serves nothing, would otherwise be measured as stock.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .peers import HARDENED_PEERS, c_library

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .peers import Peer

__all__ = [
    *("GLIBC", "HARDENED", "HARDENED_SIDES", "IN_PROCESS", "OURS", "STOCK"),
    *("Command", "clean_environment", "commands_of", "on_peer"),
]

STOCK, GLIBC = "stock", "glibc"
OURS, IN_PROCESS, HARDENED = "slabmalloc", "slabmalloc, in process", "slabmalloc, hardened"
"""`OURS` is who is compared with the rest; the form in process stands beside it."""

HARDENED_SIDES = (HARDENED, *HARDENED_PEERS)
"""Compared with each other: nobody else is held to them, nor they to anybody else."""

_CLEARED = ("LD_PRELOAD", "PYTHONMALLOC", "PYTHONDEVMODE", "PYTHONTRACEMALLOC", "GLIBC_TUNABLES", "MALLOC_")
"""Variables, or beginnings of them, that would make stock something else; `SLABMALLOC` too, but not SLABMALLOC_...,
which are options of ours."""

_SERVES = "import slabmalloc; raise SystemExit(not any(d.served_blocks for d in slabmalloc.stats().domains.values()))"
_IS_HARDENED = "import slabmalloc; raise SystemExit(not slabmalloc.stats().hardened)"
_MAPS = "import sys; raise SystemExit(sys.argv[1] not in open('/proc/self/maps').read())"


@dataclass(frozen=True)
class Command:
    """One side: `words` before the program's own, `variables` set for it; `trial` ends with 0 if it is in effect."""

    name: str
    words: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    trial: tuple[str, ...] = ("-c", "pass")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes."""
        return {**clean_environment(), **self.variables}


def clean_environment() -> dict[str, str]:
    """Ours, without what chooses an allocator. Hashes of strings are the same in each, so are the programs' steps."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_CLEARED)}
    inherited.pop("SLABMALLOC", None)
    return {**inherited, "PYTHONHASHSEED": "0"}


def commands_of(python: str, peers: Sequence[Peer]) -> tuple[list[Command], dict[str, str]]:
    """The sides that `python` can have on this machine, stock first, then ours; of those missing, why."""
    missing = {}
    sides = [Command(STOCK, (python,), version=_version(python))]
    usage = _said([python, "-m", "slabmalloc", "run", "--help"])
    version = _said([python, "-c", "from importlib.metadata import version; print(version('slabmalloc'))"]).strip()
    run, serves = (python, "-m", "slabmalloc", "run"), ("-c", _SERVES)
    if usage:
        sides.append(Command(OURS, (*run, "--quiet"), version=version, trial=serves))
    else:
        missing[OURS] = f"not installed for {Path(python).name}"
    if "--in-process" in usage:
        sides.append(Command(IN_PROCESS, (*run, "--in-process", "--quiet"), version=version, trial=serves))
    if "--hardened" in usage:
        sides.append(Command(HARDENED, (*run, "--hardened", "--quiet"), version=version, trial=("-c", _IS_HARDENED)))
    sides.append(Command(GLIBC, (python,), {"PYTHONMALLOC": "malloc"}, c_library(), ("-c", _MAPS, "libc")))
    return sides + [on_peer(python, peer) for peer in peers], missing


def on_peer(python: str, peer: Peer) -> Command:
    """Everything from the peer's `malloc`."""
    stem = Path(peer.preload).name.split(".so")[0]
    variables = {"PYTHONMALLOC": "malloc", "LD_PRELOAD": peer.preload}
    return Command(peer.name, (python,), variables, peer.version, ("-c", _MAPS, stem))


def _version(python: str) -> str:
    return _said([python, "-c", "import sys; print(sys.version.split()[0])"]).strip()


def _said(words: list[str]) -> str:
    """What a command printed; nothing if it failed."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=clean_environment())
    except OSError as error:
        raise SystemExit(f"{words[0]}: {error.strerror}") from None
    return done.stdout if done.returncode == 0 else ""
