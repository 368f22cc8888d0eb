# SPDX-License-Identifier: MIT
"""`python benchmarks/run.py`: every bar of speed, measured against the peers of this machine in the same run.

Prints progress, the tables, and which bars were met or missed; keeps all raw numbers in a JSON file. The measurements
themselves are in `c/` and in `slabmalloc.bench`; README.md says how to read what comes out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import programs, report, rounds
from harness.rows import C_ROWS, MALLOC_ROWS, STATEMENT_BARS, Row
from harness.sides import Side, our_side, peer_sides
from slabmalloc.bench import machine, malloc_in_c
from slabmalloc.bench import peers as peers_of_machine
from slabmalloc.bench.statements import STATEMENTS
from slabmalloc.bench.tables import table

RESULTS = Path(__file__).resolve().parent / "results"
FULL = rounds.Settings(rounds=9, slices=7, slice_ms=8)
QUICK = rounds.Settings(rounds=3, slices=3, slice_ms=4)


def parse(words: list[str]) -> argparse.Namespace:
    """The command's words."""
    parser = argparse.ArgumentParser(prog="python benchmarks/run.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, for a look; too noisy for a verdict")
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        default=[],
        help="rows whose name contains NAME, or 'c', 'malloc', 'python'",
    )
    parser.add_argument(
        "--peer",
        type=peers_of_machine.given,
        metavar="NAME=PATH",
        action="append",
        default=[],
        help="one more malloc to preload",
    )
    parser.add_argument("--peers-only", action="store_true", help="measure the peers, not slabmalloc")
    parser.add_argument("--rounds", type=int, help="rounds, instead of 9 (3 with --quick)")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="where the numbers go (default: a new file in benchmarks/results)"
    )
    return parser.parse_args(words)


def chosen(only: list[str]) -> tuple[list[Row], list[str]]:
    """The rows and statements that --only asks for. SystemExit with their names if there are none."""
    parts = {"c": C_ROWS, "malloc": MALLOC_ROWS, "python": ()}
    names = [name for name in only if name not in parts]
    c_rows = [
        row
        for part, rows in parts.items()
        for row in rows
        if not only or part in only or any(name in row.name for name in names)
    ]
    everything = [statement.name for statement in STATEMENTS]
    wanted = {name for name in everything if not only or "python" in only or any(part in name for part in names)}
    if not c_rows and not wanted:
        known = [row.name for row in (*C_ROWS, *MALLOC_ROWS)] + everything
        raise SystemExit("no such row; there are:\n" + "\n".join(known))
    against = {bar.against for name, bar in STATEMENT_BARS.items() if name in wanted}
    against |= {"bytearray(64)", "bytearray(65536)"} if wanted else set()
    return c_rows, [name for name in everything if name in wanted | against]


def measure_c(
    rows: list[Row], args: argparse.Namespace, peers: list[Side], settings: rounds.Settings
) -> list[rounds.RowResult]:
    """Build, then measure row by row."""
    results = []
    with tempfile.TemporaryDirectory(prefix="slabmalloc-bench-") as folder:
        programs.build(Path(folder), peers_only=args.peers_only)
        for number, row in enumerate(rows, 1):
            names = [*row.ours, row.hardened] if row.hardened else row.ours
            ours = [] if args.peers_only else [our_side(name, Path(folder)) for name in names]
            there = [peer for peer in peers if row.hardened or peer.name not in peers_of_machine.HARDENED_PEERS]
            print(f"[{number}/{len(rows)}] {row.name}", file=sys.stderr, flush=True)
            results.append(rounds.measure_row(row, ours, there, Path(folder), settings))
    return results


def main(words: list[str]) -> int:
    """Exit status 0 whether or not the bars are met: a benchmark reports, tests judge."""
    args = parse(words)
    settings = QUICK if args.quick else FULL
    if args.rounds:
        settings = rounds.Settings(args.rounds, settings.slices, settings.slice_ms)
    c_rows, statements = chosen(args.only)
    found, missing = peers_of_machine.find_peers(args.peer)
    peers = peer_sides(found)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    header: dict[str, Any] = {
        "command": machine.command_line(["python", "benchmarks/run.py"], words),
        "started": started,
        "settings": vars(settings),
        "machine": machine.facts({peer.name: peer.version for peer in peers}, malloc_in_c.compiler_version()),
        "peers_missing": missing,
    }
    results = measure_c(c_rows, args, peers, settings) if c_rows else []
    python: rounds.Figures = {}
    skipped: dict[str, str] = {}
    if statements and not args.peers_only:
        print("Python rows", file=sys.stderr, flush=True)
        python, skipped = rounds.measure_statements(statements, settings)
    header["python_skipped"] = skipped

    lines = [line for result in results for line in report.row_lines(result)]
    lines += report.hardened_mean_lines(results)
    lines += report.statement_lines(python)
    if results:
        print("\n" + report.peer_table(results))
    print("\n" + table(report.HEADER, [line.cells for line in lines]))
    for name, why in skipped.items():
        print(f"not measured: {name}: {why}")
    for name in missing:
        print(f"not measured: {name} is not installed here")
    failures = [(side, f"{result.row.name}: {why}") for result in results for side, why in result.failed.items()]
    for side, why in failures:
        print(f"failed: {side}: {why}")
    for advice in filter(None, map(peers_of_machine.advice, sorted({side for side, _ in failures}))):
        print(advice)
    print("\n" + report.summary(lines))
    path = args.json or RESULTS / f"{started.replace(':', '')}.json"
    c_rows_measured = [{"row": asdict(result.row), "raw": result.raw, "failed": result.failed} for result in results]
    report.write_json(path, header, lines, {"c": c_rows_measured, "python": python})
    print(f"raw numbers: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
