# SPDX-License-Identifier: MIT
"""`python benchmarks/process.py`: whole programs under CPython on one allocator or another, and the bars of ours.

Prints progress, what every side came to, our lines with their bars, and what failed; keeps all raw numbers in a JSON
file. The programs are in `slabmalloc.bench`; README.md says how to read what comes out.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import instructions, report, tables
from harness.tasks import SECTIONS, Counted
from slabmalloc.bench import children, commands, machine, peers
from slabmalloc.bench.comparison import SectionResult, TaskResult
from slabmalloc.bench.tables import table
from slabmalloc.bench.tasks import LAUNCH, Section, Size, Task

if TYPE_CHECKING:
    from slabmalloc.bench.commands import Command

RESULTS = Path(__file__).resolve().parent / "results"


def parse(words: list[str]) -> argparse.Namespace:
    """The command's words."""
    parser = argparse.ArgumentParser(prog="python benchmarks/process.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, for a look; no verdict")
    parser.add_argument("--scale", type=float, help="size of the programs, 1 being full (default: 1; --quick: 0.1)")
    parser.add_argument("--rounds", type=int, help="rounds, instead of each section's own")
    parser.add_argument("--instructions", action="store_true", help="count instructions too, by valgrind")
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        default=[],
        help=f"a section ({', '.join(SECTIONS)}), or part of a row",
    )
    parser.add_argument(
        "--side",
        metavar="NAME",
        action="append",
        default=[],
        help="only these sides, beside stock; the hardened ones are measured only so",
    )
    parser.add_argument(
        "--peer",
        type=peers.given,
        metavar="NAME=PATH",
        action="append",
        default=[],
        help="one more malloc to preload",
    )
    parser.add_argument("--python", metavar="PATH", action="append", default=[], help="interpreter (default: this one)")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="where the numbers go (default: a new file in benchmarks/results)"
    )
    args = parser.parse_args(words)
    args.python = args.python or [sys.executable]
    return args


@dataclass
class Seen:
    """What all interpreters came to: for the tables, for the last lines, and for the record."""

    lines: list[report.Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    sides: dict[str, Command] = field(default_factory=dict)


def size_of(args: argparse.Namespace) -> Size:
    """How large the programs are to be."""
    return Size(max(1, round(100 * (args.scale or (0.1 if args.quick else 1)))), args.quick)


def chosen(args: argparse.Namespace, size: Size) -> list[Section]:
    """The sections, each with the tasks that the options ask for. SystemExit with all names if there are none."""
    everything = [make(size) for make in SECTIONS.values()]
    sections = []
    for section in everything:
        named = section.name in args.only
        if isinstance(section, Counted) and not (args.instructions or named):
            continue
        wanted = [t for t in section.tasks if not args.only or named or any(name in t.name for name in args.only)]
        if isinstance(section, Counted) and "programs" in args.only:
            wanted = list(section.tasks)
        if wanted:
            sections.append(replace(section, tasks=tuple(wanted)))
    if not sections:
        known = [f"{section.name}: {', '.join(t.name for t in section.tasks)}" for section in everything]
        raise SystemExit("no such section or row; there are:\n" + "\n".join(known))
    if any(isinstance(section, Counted) for section in sections) and not shutil.which("valgrind"):
        raise SystemExit("instructions are counted by valgrind, which is not installed here")
    return sections


def sides_of(python: str, args: argparse.Namespace) -> tuple[list[Command], dict[str, str]]:
    """The sides that work with `python`, stock first; of the others, why not. SystemExit if stock does not."""
    found, absent = peers.find_peers(args.peer)
    sides, missing = commands.commands_of(python, found)
    missing |= dict.fromkeys(absent, "not installed here")
    if args.side:
        unknown = set(args.side) - {side.name for side in sides} - set(missing)
        if unknown:
            raise SystemExit(f"no such side: {', '.join(unknown)}; there are: {', '.join(side.name for side in sides)}")
        sides = [side for side in sides if side.name in (commands.STOCK, *args.side)]
        missing = {name: why for name, why in missing.items() if name in args.side}
    else:
        sides = [side for side in sides if side.name not in commands.HARDENED_SIDES]
        missing = {name: why for name, why in missing.items() if name not in commands.HARDENED_SIDES}
    working, failed = children.in_effect(sides)
    if commands.STOCK in failed:
        raise SystemExit(f"{python}: {failed[commands.STOCK]}")
    return working, {**missing, **failed}


def without(section: Section, python: str, missing: dict[str, str]) -> Section:
    """The section less the tasks that need a module that `python` does not have, which is noted."""
    kept = []
    for task in section.tasks:
        if (
            task.needs
            and subprocess.run([python, "-c", f"import {task.needs}"], capture_output=True, check=False).returncode
        ):
            missing[task.name] = f"no {task.needs} here"
        else:
            kept.append(task)
    return replace(section, tasks=tuple(kept))


def record_of(section: Section, side: Command, task: Task) -> dict[str, Any]:
    """What a process of the task leaves: counts, or times. Raises `Failed`."""
    if isinstance(section, Counted):
        return instructions.counted(side, lambda scale: [*task.words, str(scale)], section.scales)
    return children.run([*side.words, *task.words], side.environment)


def measure_section(section: Section, sides: list[Command], rounds: int | None, label: str) -> SectionResult:
    """Task by task, telling on standard error how far it is."""
    result = SectionResult(section, [side.name for side in sides])
    for number, task in enumerate(section.tasks, 1):
        print(f"[{label} {section.name} {number}/{len(section.tasks)}] {task.name}", file=sys.stderr, flush=True)
        result.tasks.append(seen := TaskResult(task))
        for turn in range(1 if isinstance(section, Counted) else rounds or section.rounds_of(task)):
            seen.measure_round(turn, sides, lambda side, task: record_of(section, side, task))
        for side, why in seen.failed.items():
            print(f"  {side} failed: {why}", file=sys.stderr, flush=True)
    return result


def measure(python: str, sections: list[Section], args: argparse.Namespace, seen: Seen) -> None:
    """Everything with one interpreter, told and noted as it comes."""
    sides, missing = sides_of(python, args)
    version = sides[0].version
    prefix = f"{version}: " if len(args.python) > 1 else ""
    measured: dict[str, Any] = {}
    subprocess.run([python, "-m", "compileall", "-q", str(Path(LAUNCH).parent)], capture_output=True, check=False)
    for section in (without(section, python, missing) for section in sections):
        if not section.tasks:
            continue
        result = measure_section(section, sides, args.rounds, version)
        print("\n" + tables.tables(result, prefix), flush=True)
        seen.lines += tables.lines(result, prefix)
        seen.notes += tables.failures(result, prefix)
        measured[section.name] = result.record()
    seen.notes += [f"not measured: {prefix}{name}: {why}" for name, why in missing.items()]
    seen.sides |= {side.name: side for side in sides}
    versions = {side.name: side.version for side in sides}
    seen.records.append({"python": version, "sides": versions, "missing": missing, "sections": measured})


def main(words: list[str]) -> int:
    """Exit status 0 whether or not the bars are met: a benchmark reports, tests judge."""
    args = parse(words)
    size = size_of(args)
    sections = chosen(args, size)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    load_before, seen = os.getloadavg(), Seen()
    for python in args.python:
        measure(python, sections, args, seen)
    bound = {line.row for line in seen.lines if line.limit is not None}
    if bound:
        print("\n" + table(report.HEADER, [line.cells for line in seen.lines if line.row in bound]))
    print("\n".join(["", *seen.notes, "", report.summary(seen.lines)]))
    header: dict[str, Any] = {
        "command": machine.command_line(["python", "benchmarks/process.py"], words),
        "started": started,
        "load_average_before": load_before,
        "size": asdict(size),
        "machine": machine.facts({side.name: side.version for side in seen.sides.values()}, platform.python_compiler()),
    }
    path = args.json or RESULTS / f"process-{started.replace(':', '')}.json"
    report.write_json(path, header, seen.lines, {"pythons": seen.records})
    print(f"raw numbers: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
