# SPDX-License-Identifier: MIT
"""A suite on stock and under ``slabmalloc run``, module by module, by the same interpreter.

    python tests/suites/compare.py cpython [--python PATH] [--only NAME...]
    python tests/suites/compare.py package numpy

What is known is written after each module, to ``build/suites/NAME.json`` and, as a table, ``NAME.md``; a module that is
there already is not run again (``--again``). The interpreter must have slabmalloc installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import catalogue
from outcome import TIMEOUT, Outcome, differences, parse, steady, unsteady

UNDER = ["-m", "slabmalloc", "run", "--json"]
REPEATS = 3  # runs of both sides before a difference is called one


def run_module(command: list[str], folder: Path | None, seconds: float, log: Path) -> Outcome:
    """Run one command to its end or its time limit, with all that it started; what it wrote is kept in ``log``."""
    scratch = Path(tempfile.mkdtemp(prefix="suite-"))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder or scratch,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # The interpreter's own tools come first: NumPy's tests call its meson. Some write into the home folder.
            env={
                **os.environ,
                "HOME": str(scratch),
                "TMPDIR": str(scratch),
                "PATH": f"{Path(command[0]).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            },
            start_new_session=True,
            # Where this runs in the background SIGINT is ignored, and then CPython's tests of interrupts hang.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            status: int | str = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = TIMEOUT
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    shutil.rmtree(scratch, ignore_errors=True)
    return parse(log.read_text(errors="replace"), status)


def compare_module(
    python: str,
    command: list[str],
    folder: Path | None,
    seconds: float,
    logs: Path,
    *,
    at_once: bool = False,
    end: float = float("inf"),
) -> dict[str, Any] | None:
    """Run a module on both sides, again while they differ; the record of it for the JSON file.

    The sides run ``at_once`` or one after the other. What ``end``, a time of the monotonic clock, cuts short does not
    count; None if that was all.
    """
    logs.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    runs: list[tuple[Outcome, Outcome]] = []
    while len(runs) < REPEATS:
        number = len(runs) + 1
        summary = logs / f"summary-{number}.json"
        summary.unlink(missing_ok=True)

        def side(name: str, *under: str, number: int = number) -> Outcome:
            limit = min(seconds, end - time.monotonic())
            return run_module([python, *under, *command], folder, limit, logs / f"{name}-{number}.log")

        with ThreadPoolExecutor(2 if at_once else 1) as pool:
            sides = pool.submit(side, "stock"), pool.submit(side, "slabmalloc", *UNDER, f"--summary={summary}")
        stock, ours = (done.result() for done in sides)
        if TIMEOUT in (stock.status, ours.status) and time.monotonic() >= end:
            break
        runs.append((stock, ours))
        if not differences(stock, ours):
            break
    if not runs:
        return None
    return {
        "stock": asdict(runs[-1][0]) | {"verdict": runs[-1][0].verdict},
        "slabmalloc": asdict(runs[-1][1]) | {"verdict": runs[-1][1].verdict},
        "differences": steady(runs),
        "unsteady": unsteady(runs),
        "repeats": len(runs),
        "served_blocks": served_blocks(logs / f"summary-{len(runs)}.json"),
        "seconds": round(time.monotonic() - begin, 1),
    }


def served_blocks(summary: Path) -> int | None:
    """What slabmalloc served to the module's first process; None where that did not come to its end."""
    if not summary.exists():
        return None
    domains = json.loads(summary.read_text())["domains"]
    return sum(domain["served_blocks"] for domain in domains.values())


class Record:
    """What is known of a suite: a JSON file, rewritten after each module, and the table made from it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.file = folder / f"{name}.json"
        self.data = json.loads(self.file.read_text()) if self.file.exists() else {"modules": {}}
        self.lock = threading.Lock()

    def add(self, module: str, entry: dict[str, Any]) -> None:
        with self.lock:
            self.data["modules"][module] = entry
            self.file.write_text(json.dumps(self.data, indent=1) + "\n")
            (self.folder / f"{self.name}.md").write_text(table(self.data))


def table(data: dict[str, Any]) -> str:
    """The record in Markdown: a row for each module that a side fails or the sides differ in, and the rest named."""
    modules = sorted(data["modules"].items())
    quiet = [
        (name, entry)
        for name, entry in modules
        if not entry["differences"] + entry["unsteady"] and entry["stock"]["verdict"] == "passed"
    ]
    rows = [item for item in modules if item not in quiet]
    tests = sum(entry["slabmalloc"]["run"] for _, entry in modules)
    differ = sum(bool(entry["differences"]) for _, entry in modules)
    lines = [
        f"## {data['suite']}",
        "",
        f"`{data['command']}`, slabmalloc {data['slabmalloc']}, {data['date']}: "
        f"{len(modules)} of {data['of']} modules, {tests:,} tests; {differ} modules differ.",
        "",
        "| module | stock | slabmalloc | tests | fail on both | differences |",
        "| --- | --- | --- | --- | --- | --- |",
        *(row(name, entry) for name, entry in rows),
        "",
        "Passed on both sides, and as many tests: "
        + ", ".join(f"{name} {entry['stock']['run']}" for name, entry in quiet),
        "",
    ]
    return "\n".join(lines)


def row(name: str, entry: dict[str, Any]) -> str:
    stock, ours = entry["stock"], entry["slabmalloc"]
    both = len(set(stock["failed"]) & set(ours["failed"]))
    what = "; ".join(entry["differences"] + [f"not always: {line}" for line in entry["unsteady"]])
    return f"| {name} | {stock['verdict']} | {ours['verdict']} | {ours['run']} | {both or ''} | {what} |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=["cpython", "package"])
    parser.add_argument("name", nargs="?", choices=catalogue.PACKAGES, help="of the package")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has slabmalloc")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these modules, with all their parts")
    parser.add_argument(
        "--jobs", type=int, default=1, help="modules at a time; if several, then with both sides at once"
    )
    parser.add_argument("--limit", type=float, default=300, metavar="SECONDS", help="for one run of a module")
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="SECONDS", help="then all ends")
    parser.add_argument("--again", action="store_true", help="also what the record has already")
    parser.add_argument("--output", type=Path, default=Path("build/suites"))
    options = parser.parse_args()
    if (options.suite == "package") != (options.name is not None):
        parser.error("a package has a name, and CPython needs none")
    return options


def main() -> int:
    options = arguments()
    python = Path(options.python).absolute()
    folder = options.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    about = "import importlib.metadata as m, sys; print('%d.%d' % sys.version_info[:2], m.version('slabmalloc'))"
    answer = subprocess.run([python, "-c", about], check=True, capture_output=True, text=True).stdout
    tag, slabmalloc = answer.split()
    name = f"{options.name or 'cpython'}-{tag}"
    suite = (
        catalogue.cpython(python)
        if options.suite == "cpython"
        else catalogue.package(python, options.name, folder / name)
    )
    record = Record(folder, name)
    record.data |= {
        "suite": suite.version if options.suite == "cpython" else f"{suite.version} on CPython {tag}",
        "command": " ".join(["compare.py", options.suite, *filter(None, [options.name])]),
        "slabmalloc": slabmalloc,
        "date": time.strftime("%Y-%m-%d"),
        "of": len(suite.modules),
    }
    only = options.only or list(suite.modules)
    wanted = [module for module in suite.modules if any(catalogue.belongs(module, name) for name in only)]
    missing = [name for name in only if not any(catalogue.belongs(module, name) for module in wanted)]
    if missing:
        print(f"this suite has no {', '.join(sorted(missing))}")
    if options.jobs > 1:
        wanted = catalogue.longest_first(wanted)
    end = time.monotonic() + options.budget

    def one(module: str) -> bool:
        if time.monotonic() > end or (module in record.data["modules"] and not options.again):
            return False
        logs = folder / name / module.replace("/", "_")
        entry = compare_module(
            str(python),
            suite.modules[module],
            suite.folder,
            options.limit,
            logs,
            at_once=options.jobs > 1,
            end=end,
        )
        if entry is None:
            return False
        record.add(module, entry)
        ours, stock = entry["slabmalloc"], entry["stock"]
        print(
            f"{module}: stock {stock['verdict']} {stock['run']}, slabmalloc {ours['verdict']} {ours['run']}, "
            f"{entry['seconds']} s",
            *entry["differences"],
            *entry["unsteady"],
            sep="\n    ",
            flush=True,
        )
        return bool(entry["differences"])

    with ThreadPoolExecutor(options.jobs) as pool:
        differ = sum(pool.map(one, wanted))
    print(f"{differ} modules differ; {record.file}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
