# SPDX-License-Identifier: MIT
"""A program that builds much, keeps little, and goes on: an index of the names in Python's standard library.

It parses every source file of the library, notes each node that bears a name, works with NumPy on where the names stand
(without NumPy it says so and goes on), keeps one node in fifty and one small table, lets the rest go, and then answers
queries, as a service would after a busy start. It knows nothing of allocators: `make demo` runs this very file on the
stock one, on slabmalloc and on others. Each line that it prints ends a phase.
"""

from __future__ import annotations

import ast
import gc
import sysconfig
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import numpy as np
except ImportError:
    np = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

KEPT = 50
"""One named node in so many is kept."""

ROUNDS = 6
"""How often the places are sorted anew, each time by wider bands of lines."""

SETTLE_SECONDS = 4.0
"""How long queries are answered at the end."""

Index = dict[str, list[ast.AST]]


def sources() -> list[Path]:
    """The library's own source files, by name; its test suites and what others installed are left out."""
    root = Path(sysconfig.get_path("stdlib"))
    others = {"test", "tests", "idle_test", "site-packages", "dist-packages"}
    return sorted(path for path in root.rglob("*.py") if others.isdisjoint(path.relative_to(root).parts))


def parsed(paths: list[Path]) -> Iterator[ast.Module]:
    """The syntax tree of each file; what does not parse is skipped."""
    for path in paths:
        try:
            yield ast.parse(path.read_bytes(), str(path))
        except (SyntaxError, ValueError, OSError):
            continue


def name_of(node: ast.AST) -> str | None:
    """The name that a node bears: of a variable, an attribute, an argument, a function, a class, an import."""
    for field in ("id", "attr", "arg", "name"):
        name = getattr(node, field, None)
        if isinstance(name, str):
            return name
    return None


def index_of(trees: list[ast.Module]) -> Index:
    """Every node that bears a name, by its name."""
    index: Index = defaultdict(list)
    for tree in trees:
        for node in ast.walk(tree):
            name = name_of(node)
            if name is not None:
                index[name].append(node)
    return index


def places_of(index: Index) -> list[NDArray[np.int32]]:
    """For each name an array of its nodes' lines and columns: many small arrays, few large ones."""
    return [
        np.array([(getattr(node, "lineno", 0), getattr(node, "col_offset", 0)) for node in nodes], dtype=np.int32)
        for nodes in index.values()
    ]


def widths_of(places: list[NDArray[np.int32]]) -> NDArray[np.float64]:
    """How far names stand to the right: a row per round, a value per tenth of the nodes sorted by bands of lines."""
    rows = []
    for number in range(ROUNDS):
        moved = np.concatenate([place - place.min(axis=0) for place in places])
        bands = moved[:, 0] // (10 << number)
        columns = moved[np.lexsort((moved[:, 1], bands)), 1].astype(np.float64)
        smooth = (columns[:-2] + columns[1:-1] + columns[2:]) / 3
        rows.append([part.mean() for part in np.array_split(smooth, 10)])
    return np.array(rows)


def sample_of(index: Index) -> Index:
    """One node in `KEPT` of the index, and what hangs on it."""
    sample: Index = {}
    count = 0
    for name, nodes in index.items():
        for node in nodes:
            count += 1
            if count % KEPT == 0:
                sample.setdefault(name, []).append(node)
    return sample


def answer_queries(sample: Index, seconds: float) -> int:
    """Looks names up for so long, at the pace of a service with few visitors; returns the number of answers."""
    end, answers = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for name, nodes in sample.items():
            places = [(name, getattr(node, "lineno", 0)) for node in nodes]
            answers += len(places)
        time.sleep(0.1)
    return answers


def main() -> None:
    """Build, sort, choose, let go, serve."""
    trees = list(parsed(sources()))
    print(f"parsed {len(trees):,} files", flush=True)
    index = index_of(trees)
    print(f"indexed {sum(map(len, index.values())):,} nodes under {len(index):,} names", flush=True)
    if np is None:
        places, widths = [], None
        print("no NumPy here, so no places of names", flush=True)
    else:
        places = places_of(index)
        widths = widths_of(places)
        print(f"sorted {sum(map(len, places)):,} places in {len(widths)} rounds with NumPy", flush=True)
    sample = sample_of(index)
    del trees, index, places
    gc.collect()
    table = "" if widths is None else f" and a table of {widths.size} numbers"
    print(f"kept {sum(map(len, sample.values())):,} nodes{table}", flush=True)
    answers = answer_queries(sample, SETTLE_SECONDS)
    print(f"answered {answers:,} queries", flush=True)


if __name__ == "__main__":
    main()
