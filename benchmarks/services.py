# SPDX-License-Identifier: MIT
"""`python benchmarks/services.py`: services under load for minutes, on stock and under `slabmalloc run`, by turns.

Prints a table per service; keeps all raw numbers in a JSON file and draws memory over time. The services are in
`services/`; README.md says how to read what comes out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from harness import report, service_report
from harness.service_runs import SERVICES, Outcome, Service, run
from slabmalloc.bench import children, commands, machine
from slabmalloc.bench.figures import in_turn

if TYPE_CHECKING:
    from slabmalloc.bench.commands import Command

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("slabmalloc", "gunicorn", "flask", "aiohttp", "dask", "distributed", "pandas", "numpy", "pyarrow")


def parse(words: list[str]) -> argparse.Namespace:
    """The command's words."""
    parser = argparse.ArgumentParser(prog="python benchmarks/services.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120, help="of load in each run (default: 120)")
    parser.add_argument("--calm", type=float, default=20, help="of calm after it (default: 20)")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each side (default: 1)")
    names = ", ".join(service.name for service in SERVICES)
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help=f"only this service: {names}")
    parser.add_argument("--json", metavar="FILE", type=Path, help="where the numbers go (default: benchmarks/results)")
    parser.add_argument(
        "--further",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="numbers to go on from, by further rounds (--rounds 0: tables and figures alone); may be repeated",
    )
    parser.add_argument("--figures", metavar="FOLDER", type=Path, default=RESULTS, help="where the figures go")
    return parser.parse_args(words)


def obstacle(service: Service) -> str:
    """Why a service can't be measured here; empty if it can."""
    missing = [module for module in service.needs if find_spec(module.partition(".")[0]) is None]
    if service.script and shutil.which("wrk") is None:
        missing.append("wrk")
    return f"no {', '.join(missing)} here" if missing else ""


def measure(service: Service, sides: list[Command], args: argparse.Namespace, before: list[Outcome]) -> list[Outcome]:
    """All runs of a service, in turns, those `before` included."""
    outcomes = list(before)
    first = len(before) // len(sides)
    for number, side in ((n, side) for n in range(first, first + args.rounds) for side in in_turn(sides, n)):
        print(f"[{service.name}] round {number + 1} on {side.name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(run(service, side, args.seconds, args.calm, Path(folder)))
        for line in outcomes[-1].wrong[:5]:
            print(f"  {line}", file=sys.stderr)
    return outcomes


def tell(service: Service, outcomes: list[Outcome], folder: Path) -> bool:
    """Table and figure; was everything answered, and each process on the library that it should be on?"""
    print("\n" + service_report.table(service, outcomes) + "\n", flush=True)
    figure = service_report.figure(service, outcomes)
    (folder / f"service-{service.name}.svg").write_text(figure, encoding="utf-8")
    broken = [outcome.side for outcome in outcomes if not service_report.is_whole(outcome)]
    if broken:
        print(f"{service.name}: not whole on {', '.join(broken)}")
    return not broken


def main(words: list[str]) -> int:
    """Exit status 1 if anything was lost or wrong, or a process was not on the library."""
    args = parse(words)
    chosen = [service for service in SERVICES if not args.only or service.name in args.only]
    if not chosen:
        raise SystemExit(f"no such service; there are: {', '.join(service.name for service in SERVICES)}")
    sides, failed = children.in_effect(
        [side for side in commands.commands_of(sys.executable, [])[0] if side.name in (commands.STOCK, commands.OURS)]
    )
    if len(sides) < 2:
        raise SystemExit(f"both sides are needed: {failed or 'slabmalloc is not installed'}")
    started, load_before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), os.getloadavg()
    args.figures.mkdir(parents=True, exist_ok=True)
    seen = {name: runs for path in args.further for name, runs in json.loads(path.read_text())["services"].items()}
    whole = True
    for service in chosen:
        if reason := obstacle(service):
            print(f"not measured: {service.name}: {reason}")
            continue
        before = [Outcome.of(record) for record in seen.get(service.name, [])]
        outcomes = measure(service, sides, args, before)
        if outcomes:
            whole &= tell(service, outcomes, args.figures)
            seen[service.name] = [outcome.record() for outcome in outcomes]
    facts = machine.facts({side.name: side.version for side in sides}, platform.python_compiler())
    header = {
        "command": machine.command_line(["python", "benchmarks/services.py"], words),
        "started": started,
        "seconds": args.seconds,
        "load_average_before": load_before,
        "machine": {**facts, "packages": {name: _version(name) for name in PACKAGES}},
    }
    path = args.json or RESULTS / f"services-{started.replace(':', '')}.json"
    report.write_json(path, header, [], {"services": seen})
    print(f"raw numbers: {path}")
    return 0 if whole else 1


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
