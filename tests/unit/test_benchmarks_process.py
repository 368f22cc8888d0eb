# SPDX-License-Identifier: MIT
"""The benchmark of whole programs: its programs run, a side that fails is named, ratios are those of their round."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slabmalloc.bench import children, commands, comparison, tasks

if TYPE_CHECKING:
    from types import ModuleType

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no /proc/PID/smaps_rollup here")

PROGRAMS = (
    *("binary_trees", "json_loads", "json_dumps", "pickling", "constraints", "scheduler", "dict_churn", "text_churn"),
    *("object_churn", "deep_copies", "log_text", "sql_rows", "closures", "xml_trees", "heap_heavy", "thread_churn"),
)
RELEASES = (
    ("release_mixed", "1", "95", "1"),
    ("release_cache", "1", "1"),
    ("release_documents", "1", "1"),
    ("release_threads", "1", "1"),
    ("fork_freeze", "1", "50", "1"),
)
PAUSES = tuple(("pauses", str(pattern), "1", "1") for pattern in range(8))


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return {
        name: importlib.import_module(f"harness.{name}")
        for name in ("report", "rounds", "rows", "sides", "tables", "tasks")
    }


@pytest.mark.parametrize("words", [*((name, "1") for name in PROGRAMS), *RELEASES], ids=lambda words: words[0])
def test_each_program_tells_time_and_memory(words: tuple[str, ...]) -> None:
    said = subprocess.run([sys.executable, tasks.LAUNCH, *words], capture_output=True, check=True)
    record = json.loads(said.stdout)
    assert record["work_s"] >= 0
    assert record["peak_mib"] > 1


def test_a_program_may_run_several_times() -> None:
    def result(*words: str) -> int:
        said = subprocess.run([sys.executable, *words], capture_output=True, check=True)
        found: int = json.loads(said.stdout)["result"]
        return found

    once, thrice = (result(*tasks.program("dict_churn", 1, times=times)) for times in (1, 3))
    assert thrice == 3 * once > 0


def test_programs_run_several_times_at_full_length_only(harness: dict[str, ModuleType]) -> None:
    full, quick = (harness["tasks"].programs(tasks.Size(100, is_quick)) for is_quick in (False, True))
    assert [task.words[-1] for task in full.tasks] == [f"times={tasks.TIMES[name]}" for name in tasks.PROGRAMS]
    assert [task.words[1:] for task in quick.tasks] == [(name, "100") for name in tasks.PROGRAMS]


def test_the_programs_measured_are_those_tested() -> None:
    assert set(tasks.PROGRAMS) < set(PROGRAMS)


def test_the_pauses_measured_are_all_there_are(harness: dict[str, ModuleType]) -> None:
    section = harness["tasks"].pause(tasks.Size(100, False))
    assert [task.words[1:3] for task in section.tasks] == [words[:2] for words in PAUSES]


@pytest.mark.parametrize("words", PAUSES, ids=lambda words: words[1])
def test_pauses_are_told_with_the_call_that_was_longest(words: tuple[str, ...]) -> None:
    if not any(map(shutil.which, shlex.split(os.environ.get("CC", "cc"))[:1])):
        pytest.skip("no C compiler")
    said = subprocess.run([sys.executable, tasks.LAUNCH, *words], capture_output=True, check=True)
    record = json.loads(said.stdout)
    assert record["result"] >= 100
    assert 0 <= record["p50_ns"] <= 1000 * record["p999_us"] < 1e6 * record["longest_ms"] * 1.1
    assert record["longest_small_ms"] <= record["longest_ms"]
    assert re.fullmatch(r"(allocation|free) of \d+ bytes, (building|dropping|at work)", record["longest_call"])


def measured(task: tasks.Task, sides: list[commands.Command], rounds: int) -> comparison.TaskResult:
    def record_of(side: commands.Command, task: tasks.Task) -> dict[str, Any]:
        return children.run([*side.words, *task.words], side.environment)

    result = comparison.TaskResult(task)
    for number in range(rounds):
        result.measure_round(number, sides, record_of)
    return result


def test_a_side_that_fails_is_named_and_the_rest_goes_on(harness: dict[str, ModuleType]) -> None:
    code = "import sys; print('a warning', file=sys.stderr); sys.exit('no memory')"
    sides = [commands.Command("stock", (sys.executable,)), commands.Command("broken", (sys.executable, "-c", code))]
    task = tasks.Task("pass", ("-c", "pass"), (tasks.Measure("wall_s", "wall time"),))
    found = measured(task, sides, 2)
    assert [record["side"] for record in found.raw] == ["stock", "stock"]
    result = comparison.SectionResult(tasks.Section("startup", (task,), 2), ["stock", "broken"], [found])
    assert harness["tables"].failures(result, "") == ["failed: startup, pass: broken: exit status 1: no memory"]
    assert "failed" in harness["tables"].tables(result, "")


def test_a_side_that_computes_something_else_fails() -> None:
    sides = [commands.Command(name, (sys.executable, "-c", f"print('{{\"result\": {name}}}')")) for name in "12"]
    task = tasks.Task("computed", (), (tasks.Measure("wall_s", "wall time"),))
    assert measured(task, sides, 1).failed == {"2": "computed 2, and 1 1"}


def test_ratios_are_taken_within_a_round(harness: dict[str, ModuleType]) -> None:
    measure = tasks.Measure("cpu_s", "time", mean=True, mean_limit=0.97)

    def seen(name: str, *pairs: tuple[float, float]) -> comparison.TaskResult:
        task = tasks.Task(name, (), (measure,))
        rounds = list(enumerate(pairs))
        raw = [{"round": number, "side": "stock", "cpu_s": stock} for number, (stock, _) in rounds]
        raw += [{"round": number, "side": "slabmalloc", "cpu_s": ours} for number, (_, ours) in rounds]
        return comparison.TaskResult(task, raw)

    found = [seen("a", (1, 2), (10, 5)), seen("b", (1, 2), (10, 80))]
    section = tasks.Section("programs", tuple(one.task for one in found), 2)
    result = comparison.SectionResult(section, ["stock", "slabmalloc"], found)
    assert found[0].compared("slabmalloc", measure) == {0: 2, 1: 0.5}
    assert result.means("slabmalloc", measure) == ([pytest.approx(2), pytest.approx(2)], 2)
    last = harness["tables"].lines(result, "")[-1]
    assert (last.row, last.verdict) == ("geometric mean of 2: time", "missed")


def test_the_hardened_malloc_is_held_to_its_peer_by_the_mean(harness: dict[str, ModuleType]) -> None:
    def seen(ours: float, theirs: float, secure: float | None = None) -> Any:
        result = harness["rounds"].RowResult(harness["rows"].MALLOC_ROWS[0], ["hardened_malloc", "mimalloc-secure"])
        result.ns = {"malloc": [1.0], "malloc, hardened": [ours], "hardened_malloc": [theirs]}
        result.ns |= {"mimalloc-secure": [secure]} if secure else {}
        return result

    rows = [seen(1, 1, 0.5), seen(4, 16)]
    lines = [line for row in rows for line in harness["report"].row_lines(row)]
    assert [line.against.split()[0] for line in lines] == [
        *("malloc", "hardened_malloc", "mimalloc-secure"),
        *("malloc", "hardened_malloc"),
    ]  # nobody of them is a peer of the default mode
    assert {line.side for line in lines} == {"malloc, hardened"}
    mean, secure = harness["report"].hardened_mean_lines(rows)
    assert (mean.row, mean.ratio.median, mean.limit, mean.verdict) == ("malloc, geometric mean of 2", 0.5, 0.5, "met")
    assert (secure.row, secure.ratio.median, secure.verdict) == ("malloc, geometric mean of 1", 2.0, "")


def test_of_the_sides_in_c_only_the_hardened_peers_may_fail(harness: dict[str, ModuleType], tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 'no mappings' >&2\nexit 3\n")
    program.chmod(0o755)
    side, row = harness["sides"].Side, harness["rows"].MALLOC_ROWS[0]
    settings = harness["rounds"].Settings(rounds=2, slices=1, slice_ms=1)
    peer = side("hardened_malloc", "program", may_fail=True)
    result = harness["rounds"].measure_row(row, [], [peer], tmp_path, settings)
    assert result.failed == {"hardened_malloc": "exit 3 no mappings"}
    assert harness["report"].row_lines(result) == []
    with pytest.raises(SystemExit, match="jemalloc, malloc, pair 8 B: exit 3 no mappings"):
        harness["rounds"].measure_row(row, [], [side("jemalloc", "program")], tmp_path, settings)


@pytest.mark.parametrize("named", [[], ["slabmalloc, hardened"]], ids=["by default", "named"])
def test_the_hardened_sides_of_whole_programs_are_measured_if_named(
    named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    process = importlib.import_module("process")
    words = [word for name in named for word in ("--side", name)]
    sides, missing = process.sides_of(sys.executable, process.parse(words))
    assert set(commands.HARDENED_SIDES) & ({side.name for side in sides} | set(missing)) == set(named)


def test_the_command_writes_its_record(tmp_path: Path) -> None:
    target = tmp_path / "record.json"
    words = [sys.executable, str(BENCHMARKS / "process.py"), "--only", "pass", "--side", "stock", "--rounds", "2"]
    said = subprocess.run([*words, "--json", str(target)], capture_output=True, text=True, check=True)
    assert "-c pass" in said.stdout
    record = json.loads(target.read_text())
    assert len(record["pythons"][0]["sections"]["startup"][0]["raw"]) == 2
    assert str(tmp_path) not in target.read_text()
