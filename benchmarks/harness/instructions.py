# SPDX-License-Identifier: MIT
"""Instructions of a program by callgrind: at two scales, so that the difference has no start-up in it.

An exec on the way (a side may start the interpreter anew) is followed; each process writes a log of its own, and all
count. Almost the same number comes out each time: one round is enough.

Two things would be otherwise than outside of valgrind, for one side alone, and are put right. Memory lies below 1 GiB
there, where an `id()` is a number of one digit to CPython, which takes fewer instructions: so none is mapped below
8 GiB. And time is so much longer that memory goes back many times as often: so the decay is as much longer.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from slabmalloc.bench import children

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slabmalloc.bench.commands import Command

_LEAST_ADDRESS = 8 << 30  # the highest that valgrind allows
_DECAY_MS = 50 * 1000  # a second, where a program takes fifty times as long

_COUNT = re.compile(r"Collected\s*:\s*(\d+)")


def counted(side: Command, words_at: Callable[[int], Sequence[str]], scales: tuple[int, int]) -> dict[str, float]:
    """A record of the program `words_at(scale)`: millions of instructions between the two scales. Raises `Failed`."""
    small, large = (_count(side, words_at(scale)) for scale in scales)
    return {"small": small, "large": large, "instructions_m": (large - small) / 1e6}


def _count(side: Command, words: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="slabmalloc-bench-") as folder:
        valgrind = ["valgrind", "--tool=callgrind", "--trace-children=yes", f"--aspace-minaddr={_LEAST_ADDRESS:#x}"]
        valgrind += [f"--log-file={folder}/%p.log", f"--callgrind-out-file={folder}/%p.out"]
        variables = {**side.environment, "SLABMALLOC_DECAY_MS": str(_DECAY_MS)}
        children.run([*valgrind, *side.words, *words], variables)
        logs = [path.read_text(errors="replace") for path in Path(folder).glob("*.log")]
        counts = [int(found) for log in logs for found in _COUNT.findall(log)]
        if not counts:
            raise children.Failed("callgrind counted nothing")
        return sum(counts)
