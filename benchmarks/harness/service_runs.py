# SPDX-License-Identifier: MIT
"""One service on one side: started, loaded for so long, left calm for a while, ended; and what was seen.

Two kinds. A server is loaded by wrk from outside, and its answers are compared by a checker meanwhile. A program that
brings its own load tells its steps on standard output (`services/told.py`).
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import process_tree
from slabmalloc.process import preload

if TYPE_CHECKING:
    from harness.process_tree import Tree
    from slabmalloc.bench.commands import Command

FOLDER = Path(__file__).resolve().parent.parent / "services"
CHECK_SECONDS = 0.1
START_SECONDS = 120


@dataclass(frozen=True)
class Service:
    """A service. `words` follow the interpreter; {port}, {seconds} and {calm} are filled in.

    `script` is wrk's, with `connections`; without one the service brings its own load. `module` tells what a server
    must answer.
    """

    name: str
    title: str
    words: tuple[str, ...]
    unit: str
    needs: tuple[str, ...] = ()
    script: str = ""
    connections: int = 0
    module: str = ""


SERVICES = (
    Service(
        "gunicorn",
        "gunicorn: three forked workers, preloaded, recycled",
        ("-m", "gunicorn", "--config", "gunicorn_settings.py", "--bind", "127.0.0.1:{port}", "shop:app"),
        "requests",
        ("gunicorn", "flask"),
        "shop.lua",
        24,
        "shop",
    ),
    Service(
        "asyncio",
        "asyncio: aiohttp with 400 connections",
        ("events.py", "{port}"),
        "requests",
        ("aiohttp",),
        "events.lua",
        400,
        "events",
    ),
    Service("pool-fork", "A process pool by fork", ("pools.py", "fork", "{seconds}", "{calm}"), "tasks"),
    Service("pool-spawn", "A process pool by spawn", ("pools.py", "spawn", "{seconds}", "{calm}"), "tasks"),
    Service(
        "dask",
        "Dask: a LocalCluster that joins and groups",
        ("shuffles.py", "{seconds}", "{calm}"),
        "rounds",
        ("dask.dataframe", "distributed"),
    ),
)


@dataclass
class Outcome:
    """What one run came to. Times are seconds since its start; `figures` are the load's own account."""

    service: str
    side: str
    load_begin: float = 0.0
    load_end: float = 0.0
    processor_seconds: float = 0.0
    checks: int = 0
    wrong: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    samples: list[process_tree.Sample] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """For the JSON file."""
        samples = [[s.at, s.mib, s.processes, s.served] for s in self.samples]
        return {**asdict(self), "samples": samples}

    @staticmethod
    def of(record: dict[str, Any]) -> Outcome:
        """What `record` was made from."""
        return Outcome(**{**record, "samples": [process_tree.Sample(*sample) for sample in record["samples"]]})


def run(service: Service, side: Command, seconds: float, calm: float, folder: Path) -> Outcome:
    """RuntimeError: it does not start, ends with another status than 0, or leaves processes behind."""
    outcome, port = Outcome(service.name, side.name), _free_port()
    words = [word.format(port=port, seconds=seconds, calm=calm) for word in service.words]
    environment = {**side.environment, "SERVICE_FOLDER": str(folder)}
    expected = _expected(service, environment) if service.module else {}
    path = folder / "log"
    with path.open("w+") as log:
        tree = process_tree.start([*side.words, *words], environment, FOLDER, log, preload.LIBRARY)
        limit = threading.Timer(START_SECONDS + 2 * seconds + calm, tree.kill)
        limit.start()
        try:
            if service.script:
                _load_server(service, tree, outcome, (seconds, calm), port, expected)
                tree.unwatch()
                tree.process.terminate()
            else:
                _follow(tree, outcome)
                tree.unwatch()
            tree.end()
        except RuntimeError as error:
            raise RuntimeError(f"{service.name} on {side.name}: {error}\n{path.read_text()[-3000:]}") from None
        finally:
            limit.cancel()
            tree.kill()
    outcome.samples = tree.samples
    return outcome


def _load_server(
    service: Service, tree: Tree, outcome: Outcome, times: tuple[float, float], port: int, expected: dict[str, int]
) -> None:
    _await(tree, port)
    checker = _Checker(port, expected)
    checker.start()
    outcome.load_begin, before = tree.seconds, tree.processor_seconds()
    words = ["wrk", "--threads", "2", "--connections", str(service.connections), "--timeout", "60"]
    words += ["--duration", f"{times[0]:.0f}", "--script", service.script, f"http://127.0.0.1:{port}"]
    done = subprocess.run(words, cwd=FOLDER, capture_output=True, text=True, check=True)
    outcome.processor_seconds = tree.processor_seconds() - before
    outcome.load_end = tree.seconds
    outcome.figures = json.loads(done.stdout.splitlines()[-1])
    outcome.figures["lost"] = sum(outcome.figures[kind] for kind in ("connect", "read", "write", "status", "timeout"))
    time.sleep(times[1])
    checker.stop()
    outcome.checks, outcome.wrong = checker.count, checker.wrong
    outcome.figures["wrong"] = len(checker.wrong)


def _follow(tree: Tree, outcome: Outcome) -> None:
    """To the end of a program that tells its steps."""
    assert tree.process.stdout is not None
    before = 0.0
    for line in tree.process.stdout:
        told = json.loads(line)
        step = told.pop("step")
        if step == "load":
            outcome.load_begin, before = tree.seconds, tree.processor_seconds()
        elif step == "calm":
            outcome.load_end, outcome.figures = tree.seconds, told
            outcome.processor_seconds = tree.processor_seconds() - before
        else:
            outcome.checks = int(outcome.figures["requests"])
            return
    raise RuntimeError("it ended too early")


class _Checker(threading.Thread):
    """Asks for paths whose answers are known, one after the other, as long as it runs."""

    def __init__(self, port: int, expected: dict[str, int]) -> None:
        super().__init__(daemon=True)
        self.count, self.wrong = 0, list[str]()
        self._port, self._expected, self._stopped = port, expected, threading.Event()

    def run(self) -> None:
        while not self._stopped.is_set():
            for path, sum_of in self._expected.items():
                if self._stopped.wait(CHECK_SECONDS):
                    return
                self._check(path, sum_of)

    def _check(self, path: str, sum_of: int) -> None:
        self.count += 1
        try:
            answer = _get(self._port, path)
        except (OSError, http.client.HTTPException) as error:
            self.wrong.append(f"{path}: {error!r}")
        else:
            if zlib.crc32(answer) != sum_of:
                self.wrong.append(f"{path}: another answer")

    def stop(self) -> None:
        """After the answer that is waited for."""
        self._stopped.set()
        self.join()


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def _expected(service: Service, environment: dict[str, str]) -> dict[str, int]:
    """What the server's module says, in a process of its own, on stock."""
    program = f"import json, {service.module}; print(json.dumps({service.module}.expected()))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=FOLDER, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return {path: int(sum_of) for path, sum_of in json.loads(done.stdout).items()}


def _await(tree: Tree, port: int) -> None:
    while tree.process.poll() is None and tree.seconds < START_SECONDS:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError("the server did not start")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
