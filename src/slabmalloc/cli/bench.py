# SPDX-License-Identifier: MIT
"""``slabmalloc bench`` (floor 6): the whole comparison on this machine: stock, slabmalloc, and the peers here.

Progress goes to standard error, tables to standard output, all figures to a JSON file, and what one shows to others to
a page in HTML that needs nothing but itself. What is measured, and how, is in `slabmalloc.bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slabmalloc.bench import children, commands, machine, malloc_in_c, page, peers, schedule, sections, tables
from slabmalloc.bench.commands import HARDENED_SIDES, STOCK
from slabmalloc.bench.progress import Progress
from slabmalloc.bench.report import Report, SectionReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slabmalloc.bench.commands import Command
    from slabmalloc.bench.peers import Peer
    from slabmalloc.bench.tasks import Section, Size, Task

__all__ = ["main"]

QUICK_SECONDS, QUICK_PROCESS_SECONDS = 95.0, 15.0
"""The last may begin so late, and takes so long at most: together under two minutes."""


def main(arguments: Sequence[str]) -> int:
    """Measures, reports; 0, also if rows are lost. 130: interrupted, after what was measured has been reported."""
    options = _parser().parse_args(arguments)
    size = sections.QUICK_SIZE if options.quick else sections.SIZE
    if options.scale:
        size = replace(size, percent=options.scale)
    started = time.gmtime()
    try:
        wanted = sections.chosen(size, options.only)
        files = _files(options, time.strftime("%Y%m%dT%H%M%SZ", started))
    except (ValueError, OSError) as error:
        print(f"slabmalloc bench: {error}", file=sys.stderr)
        return 2
    if options.rounds:
        wanted = [_with_rounds(section, options.rounds) for section in wanted]
    run = _Run(options, arguments, size, time.strftime("%Y-%m-%dT%H:%M:%SZ", started))
    with tempfile.TemporaryDirectory(prefix="slabmalloc-bench-") as folder:
        run.measure(wanted, Path(folder))
    _publish(run.report(), files)
    return 130 if run.is_interrupted else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="slabmalloc bench",
        description="Measures this machine's stock allocator, slabmalloc, and the peers that are found "
        f"(Debian: {peers.PACKAGES}), in turns; about a quarter of an hour.",
        epilog=f"Sections: {', '.join(sections.SECTIONS)}.",
    )
    parser.add_argument("--quick", action="store_true", help="a look in less than two minutes, on small programs")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="rounds, instead of each section's own")
    parser.add_argument(
        "--scale",
        type=_positive,
        metavar="PERCENT",
        help=f"size of the programs (default: {sections.SIZE.percent}; with --quick {sections.QUICK_SIZE.percent})",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="a section, or rows whose name contains NAME"
    )
    parser.add_argument(
        "--peer",
        type=peers.given,
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="one more malloc to preload; of a known name: instead of that one",
    )
    parser.add_argument("--no-peers", action="store_true", help="leave out the peers that are found")
    parser.add_argument(
        "--json", metavar="FILE", help="all figures (default: slabmalloc-bench-TIME.json here); -: standard output"
    )
    parser.add_argument("--html", metavar="FILE", help="the page (default: slabmalloc-bench-TIME.html here)")
    return parser


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return value


def _files(options: argparse.Namespace, moment: str) -> tuple[Path | None, Path]:
    """Where JSON (None: standard output) and page go. OSError, before anything is measured, if they can't."""
    name = f"slabmalloc-bench-{moment}"
    targets = [Path(options.json or f"{name}.json"), Path(options.html or f"{name}.html")]
    for target in targets:
        if str(target) == "-":
            continue
        if target.is_dir():
            raise IsADirectoryError(f"{target} is a directory; give the name of a file")
        if not os.access(target if target.exists() else target.parent, os.W_OK):
            raise PermissionError(f"can't write {target}: its directory is missing or not writable; name another file")
    return None if options.json == "-" else targets[0], targets[1]


def _with_rounds(section: Section, rounds: int) -> Section:
    return replace(section, rounds=rounds, tasks=tuple(replace(task, rounds=None) for task in section.tasks))


class _Run:
    """One comparison: who takes part, what was left out, and what came of it."""

    def __init__(self, options: argparse.Namespace, arguments: Sequence[str], size: Size, started: str) -> None:
        self.options, self.size, self.started = options, size, started
        self.command = machine.command_line(["slabmalloc", "bench"], arguments)
        self.load_before = os.getloadavg()
        self.left_out: dict[str, str] = {}
        self.notes: list[str] = _notes_on_load(self.load_before[0])
        self.works: list[schedule.Work] = []
        self.peers: list[Peer] = []
        self.crashed: set[str] = set()
        self.is_interrupted = False
        seconds = QUICK_SECONDS if options.quick else None
        self.clock = schedule.Clock(seconds, *([QUICK_PROCESS_SECONDS] if options.quick else []))

    def measure(self, wanted: Sequence[Section], folder: Path) -> None:
        """All of it, or as much as there was time for."""
        progress = Progress(sys.stderr)
        try:
            progress.say("looking for peers")
            self.works = self._prepare(wanted, folder)
            if left := schedule.carry_out(self.works, self.clock, progress.tell):
                self.notes.append(f"time was up: {left} repetitions were left out, since --quick ends in two minutes")
        except KeyboardInterrupt:
            self.is_interrupted = True
            self.notes.append("interrupted: the rows hold what was measured until then")
        finally:
            progress.close()

    def _prepare(self, wanted: Sequence[Section], folder: Path) -> list[schedule.Work]:
        found, missing = peers.find_peers(self.options.peer)
        if self.options.no_peers:
            found, missing = list(self.options.peer), []
        self.left_out |= dict.fromkeys(missing, "not installed here")
        sides = self._interpreter_sides(found)
        self.peers = [peer for peer in found if peer.name in {side.name for side in sides}]
        if all(peer.name in HARDENED_SIDES for peer in self.peers):
            self.notes.append(f"no peer takes part: beside stock there is nobody to compare with ({peers.PACKAGES})")
        works: list[schedule.Work] = []
        for section in wanted:
            if section.name == sections.LIBRARY:
                works.append(schedule.LibraryWork(section))
            elif section.name == sections.MALLOC:
                works += self._malloc(section, folder)
            elif tasks := self._possible(section):
                of_section = [side for side in sides if section.has_hardened or side.name not in HARDENED_SIDES]
                works.append(schedule.ProcessWork(replace(section, tasks=tasks), of_section))
        return works

    def _interpreter_sides(self, found: Sequence[Peer]) -> list[Command]:
        """Those in effect; SystemExit if stock is not."""
        python = sys.executable
        sides, missing = commands.commands_of(python, found)
        wanted = [side for side in sides if side.name not in (commands.IN_PROCESS, commands.GLIBC)]
        working, failed = children.in_effect(wanted)
        if STOCK in failed:
            raise SystemExit(f"slabmalloc bench: {python} does not even run -c pass: {failed[STOCK]}")
        self.left_out |= missing | failed
        self.crashed |= failed.keys()
        return working

    def _possible(self, section: Section) -> tuple[Task, ...]:
        """Its tasks, without those that need a module that is not installed."""
        kept = []
        for task in section.tasks:
            if task.needs and not _has_module(task.needs):
                self.left_out[task.name] = f"{task.needs} is not installed here"
            else:
                kept.append(task)
        return tuple(kept)

    def _malloc(self, section: Section, folder: Path) -> list[schedule.Work]:
        try:
            program = malloc_in_c.compile_program(folder)
            sides, failed = children.in_effect(malloc_in_c.sides_of(program, self.peers))
        except RuntimeError as error:
            self.left_out[section.title] = str(error)
            return []
        self.left_out |= {f"{section.title}, {name}": why for name, why in failed.items()}
        return [schedule.ProcessWork(section, sides, malloc_in_c.check)]

    def report(self) -> Report:
        """What came of it."""
        for work in self.works:
            if isinstance(work, schedule.LibraryWork):
                self.left_out |= work.skipped
        for section in (work.result for work in self.works):
            idle = [task.task.name for task in section.tasks if not (task.raw or task.failed)]
            names = [section.section.title] if len(idle) == len(section.tasks) else idle
            self.left_out |= dict.fromkeys(names, "interrupted before" if self.is_interrupted else "no time was left")
        self.crashed |= {side for work in self.works for task in work.result.tasks for side in task.failed}
        self.notes += filter(None, map(peers.advice, sorted(self.crashed)))
        versions = {peer.name: peer.version for peer in self.peers}
        return Report(
            command=self.command,
            started=self.started,
            seconds=self.clock.seconds,
            size=self.size,
            machine=machine.facts(versions, malloc_in_c.compiler_version()),
            load_before=self.load_before,
            sections=[SectionReport(work.result) for work in self.works],
            left_out=self.left_out,
            notes=self.notes,
        )


def _notes_on_load(load: float) -> list[str]:
    processors = len(os.sched_getaffinity(0))
    if load < processors:
        return []
    return [f"the machine was busy: a load of {load:.1f} on {processors} processors; times are less sure"]


def _has_module(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def _publish(report: Report, files: tuple[Path | None, Path]) -> None:
    """The table, or JSON in its place, then both files."""
    record = json.dumps(report.record(), indent=1)
    to_json, to_html = files
    to_html.write_text(page.page(report), encoding="utf-8")
    if to_json is None:
        print(record)
        print(f"the page: {to_html}", file=sys.stderr)
    else:
        to_json.write_text(record + "\n", encoding="utf-8")
        print(f"{tables.text(report)}\n\nall figures: {to_json}\nthe page: {to_html}")
