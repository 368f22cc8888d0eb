# SPDX-License-Identifier: MIT
"""What `slabmalloc bench` is made of: rounds and their end, rows and verdicts, plots, progress."""

from __future__ import annotations

import io
import re
import sys
import time
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from slabmalloc.bench import charts, children, peers, sections, statements
from slabmalloc.bench.commands import Command
from slabmalloc.bench.comparison import SectionResult, TaskResult
from slabmalloc.bench.figures import Spread
from slabmalloc.bench.outcome import rows_of
from slabmalloc.bench.progress import Progress
from slabmalloc.bench.report import SectionReport
from slabmalloc.bench.schedule import NOT_AGAIN, Clock, ProcessWork, Step, carry_out
from slabmalloc.bench.tasks import Measure, Section, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

MEASURE = Measure("cpu_s", "time", mean=True)


def section_of(**seen: dict[str, list[float]]) -> SectionResult:
    """A section from seconds by task, side and round."""
    results = []
    for name, by_side in seen.items():
        raw = [
            {"round": number, "side": side, "cpu_s": value}
            for side, values in by_side.items()
            for number, value in enumerate(values)
        ]
        results.append(TaskResult(Task(name, (), (MEASURE,)), raw))
    sides = list(dict.fromkeys(side for by_side in seen.values() for side in by_side))
    return SectionResult(Section("made_up", tuple(result.task for result in results), 3), sides, results)


def test_a_row_has_ratios_within_a_round_and_the_best_peer() -> None:
    a = {"stock": [1.0, 2.0, 4.0], "slabmalloc": [2.0, 4.0, 8.0], "x": [1.0, 2.0, 4.0], "y": [4.0, 8.0, 16.0]}
    row, *_ = rows_of(section_of(a=a))
    assert row.ours == Spread(2.0, 2.0, 2.0, "stock")
    assert row.to_best == Spread(2.0, 2.0, 2.0, "x")
    assert row.verdicts == {"stock": "lost", "x": "lost"}
    assert row.cells["stock"].figure == Spread(2.0, 1.5, 3.0)


def test_a_ratio_whose_quartiles_are_on_both_sides_of_1_is_level() -> None:
    row, *_ = rows_of(section_of(a={"stock": [1.0, 1.0, 1.0], "slabmalloc": [0.9, 1.1, 1.2]}))
    assert (row.is_lost, row.verdicts) == (False, {"stock": "level"})


def test_after_one_round_it_takes_more_to_lose() -> None:
    lost = {
        value: rows_of(section_of(a={"stock": [1.0], "slabmalloc": [value]}))[0].verdicts["stock"]
        for value in (0.9, 1.04, 1.06)
    }
    assert lost == {0.9: "won", 1.04: "level", 1.06: "lost"}


def test_a_mean_is_told_of_those_that_came_through_all_tasks() -> None:
    a = {"stock": [1.0], "slabmalloc": [2.0], "x": [3.0]}
    b = {"stock": [1.0], "slabmalloc": [8.0], "x": [3.0]}
    result = section_of(a=a, b=b)
    result.tasks[1].failed["x"] = "signal SIGSEGV"
    *_, mean = rows_of(result)
    assert mean.name == "geometric mean of 2"
    assert mean.ours is not None
    assert mean.ours.median == pytest.approx(4.0)
    assert set(mean.cells) == {"stock", "slabmalloc"}
    assert mean.to_best is None
    assert rows_of(result)[1].cells["x"].failed == "signal SIGSEGV"


HARDENED = {"slabmalloc, hardened": [4.0], "hardened_malloc": [8.0], "mimalloc-secure": [0.5]}


def test_the_hardened_mode_is_compared_with_its_peers_and_nobody_else() -> None:
    a = {"stock": [1.0], "slabmalloc": [1.0], "x": [1.0], **HARDENED}
    b = {"stock": [1.0], "slabmalloc": [2.0], "x": [2.0], **HARDENED}
    rows = rows_of(section_of(a=a, b=b))
    assert [row.to_best and row.to_best.against for row in rows] == ["x", "x", "x"]
    assert rows[0].verdicts == {"stock": "level", "x": "level"}
    assert {name: ratio.median for name, ratio in rows[1].hardened.items()} == {
        "slabmalloc": 2.0,
        "hardened_malloc": 0.5,
        "mimalloc-secure": 8.0,
    }
    assert rows[2].hardened["slabmalloc"].median == pytest.approx(8**0.5)
    assert [row.hardened_verdicts for row in rows] == [{"hardened_malloc": "won", "mimalloc-secure": "lost"}] * 3


def test_a_hardened_peer_that_failed_leaves_the_others() -> None:
    result = section_of(a={"stock": [1.0], "slabmalloc": [1.0], **HARDENED})
    result.tasks[0].failed["hardened_malloc"] = "signal SIGABRT"
    (row,) = rows_of(result)
    assert set(row.hardened) == {"slabmalloc", "mimalloc-secure"}
    result.tasks[0].failed["slabmalloc, hardened"] = "signal SIGABRT"
    (row,) = rows_of(result)
    assert row.hardened == {}


def test_programs_and_malloc_are_measured_hardened_too() -> None:
    found = {section.name for section in sections.chosen(sections.SIZE, []) if section.has_hardened}
    assert found == {"programs", "malloc"}


def test_hardened_peers_are_found_by_the_names_of_their_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"hardened_malloc": "libhardened_malloc.so", "mimalloc-secure": "libmimalloc-secure.so.2"}
    monkeypatch.setattr("ctypes.util.find_library", known.get)
    found, missing = peers.find_peers()
    assert {peer.name: peer.preload for peer in found} == known
    assert missing == ["jemalloc", "mimalloc", "tcmalloc"]


@pytest.mark.parametrize(
    ("number", "version"), [(209, "2.0.9"), (315, "3.1.5"), (30403, "3.4.3")], ids=lambda value: str(value)
)
def test_mimalloc_tells_its_version_in_three_digits_or_in_five(
    number: int, version: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: SimpleNamespace(mi_version=lambda: number))
    exec(peers._VERSION, {})
    assert capsys.readouterr().out == f"{version}\n"


def test_a_process_that_does_not_end_is_ended() -> None:
    begin = time.monotonic()
    with pytest.raises(children.Failed, match=r"^did not end within 0 s$"):
        children.run([sys.executable, "-c", "import time; time.sleep(60)"], {}, 0.3)
    assert time.monotonic() - begin < 30


def test_a_program_that_is_not_there_has_failed() -> None:
    with pytest.raises(children.Failed, match="can't be started: No such file"):
        children.run(["/there/is/none"], {})


def test_memory_is_watched_from_outside() -> None:
    code = "import time; time.sleep(0.5); kept = bytearray(64 << 20); time.sleep(0.5)"
    memory = children.run([sys.executable, "-c", code], {}, is_watched=True)["memory_over_time"]
    assert memory == sorted(memory)
    if memory[-1][0] - memory[0][0] > 0.5:  # else the machine was too busy to look
        assert max(mebibytes for _, mebibytes in memory) > 64


def steps_told(work: ProcessWork, clock: Clock) -> tuple[list[tuple[str, int]], int]:
    told: list[tuple[str, int]] = []
    left = carry_out([work], clock, lambda step, *_: told.append((step.name, step.number)))
    return told, left


@pytest.fixture
def work() -> ProcessWork:
    tasks = tuple(Task(name, ("-c", "pass"), (Measure("wall_s", "time"),)) for name in "ab")
    return ProcessWork(Section("made_up", tasks, 3), [Command("stock", (sys.executable,))])


def test_rounds_go_through_all_tasks(work: ProcessWork) -> None:
    told, left = steps_told(work, Clock())
    assert told == [(name, number) for number in range(3) for name in "ab"]
    assert left == 0


def test_when_time_is_up_nothing_more_is_begun(work: ProcessWork) -> None:
    told, left = steps_told(work, Clock(seconds=0))
    assert (told, left) == ([], 6)
    assert SectionReport(work.result).rows == []


def test_what_would_take_too_long_once_more_is_left_out(work: ProcessWork, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def steps(number: int) -> Iterator[Step]:
        for name, seconds in (("long", 50.0), ("short", 10.0)):
            yield Step("made_up", name, number, lambda _, seconds=seconds: now.__setitem__(0, now[0] + seconds))

    monkeypatch.setattr(work, "steps", steps)
    told, left = steps_told(work, Clock(seconds=90))
    assert told == [("long", 0), ("short", 0), ("short", 1), ("short", 2)]
    assert left == 2


def test_a_side_that_does_not_end_in_time_gets_no_more_of_it() -> None:
    tasks = tuple(Task(name, ("-c", "pass"), (Measure("wall_s", "time"),)) for name in "ab")
    hanging = Command("x", (sys.executable, "-c", "import time; time.sleep(60)"))
    work = ProcessWork(Section("made_up", tasks, 2), [Command("stock", (sys.executable,)), hanging])
    begin = time.monotonic()
    carry_out([work], Clock(process_seconds=4), lambda *_: None)
    assert time.monotonic() - begin < 50
    assert [task.failed for task in work.result.tasks] == [{"x": "did not end within 4 s"}, {"x": NOT_AGAIN}]
    assert SectionReport(work.result).failures == ["made_up, a: x: did not end within 4 s"]
    assert [len(task.raw) for task in work.result.tasks] == [2, 2]


def test_a_process_may_take_a_little_more_than_the_time_that_is_left() -> None:
    assert Clock().process_limit == children.LIMIT_SECONDS
    assert Clock(90, 20).process_limit == 20
    assert 11 < Clock(0, 20).process_limit <= 12
    clock = Clock(0, 20)
    clock._end = time.monotonic() - 60
    assert clock.process_limit == 2


def test_a_clock_of_a_quick_run_ends_within_two_minutes() -> None:
    from slabmalloc.cli import bench

    assert bench.QUICK_SECONDS + Clock.GRACE_SECONDS + bench.QUICK_PROCESS_SECONDS / 2 < 120


@pytest.mark.parametrize("size", [sections.SIZE, sections.QUICK_SIZE], ids=["full", "quick"])
def test_sections_are_found_by_their_names_and_those_of_rows(size: Any) -> None:
    assert [section.name for section in sections.chosen(size, [])] == list(sections.SECTIONS)
    (found,) = sections.chosen(size, ["_churn"])
    assert {task.name for task in found.tasks} >= {"dict_churn", "text_churn"}
    with pytest.raises(ValueError, match="--only nonsense"):
        sections.chosen(size, ["programs", "nonsense"])
    names = [(section.name, task.name) for section in sections.chosen(size, []) for task in section.tasks]
    assert len(names) == len(set(names))


def test_the_statements_of_the_section_exist() -> None:
    known = {statement.name for statement in statements.STATEMENTS}
    assert {name for by in sections.LIBRARY_SIDES.values() for name in by.values()} <= known


@pytest.mark.parametrize("medians", [(1.0,), (0.97, 1.02), (0.01, 60.0), (5.0,), (0.2, 0.9)])
def test_ticks_hold_1_and_keep_apart(medians: tuple[float, ...]) -> None:
    scale = charts.scale_of([Spread(value, value, value) for value in medians])
    places = [scale.place(tick) for tick in scale.ticks]
    assert 1.0 in scale.ticks
    assert len(places) >= 2
    assert all(after - before >= charts.TICK_SHARE - 0.01 for before, after in pairwise(places))
    assert all(0 < scale.place(value) < 100 for value in medians)


def test_bars_begin_at_1_and_whiskers_end_at_the_quartiles() -> None:
    scale = charts.Scale(0.25, 4.0)
    text = charts.ratio_bars(scale, [(1, "slabmalloc", Spread(2.0, 1.0, 4.0)), (2, "x", Spread(0.5, 0.5, 0.5))])
    ours, peer = re.findall(r'<g class="side-\d">.*?</g>', text)
    assert 'x="50.0%"' in ours
    assert 'width="25.0%"' in ours
    assert 'x1="50.0%" x2="100.0%"' in ours
    assert 'x="25.0%"' in peer
    assert "whisker" not in peer


def test_a_chart_of_memory_has_round_ticks_and_ours_on_top() -> None:
    text = charts.memory_chart({1: [(0.0, 10.0), (2.0, 73.0)], 0: [(0.0, 5.0), (1.0, 40.0)]})
    assert re.findall(r'class="y"[^>]*>([^<]*)<', text) == ["0", "20", "40", "60", "80"]
    assert re.findall(r'<polyline class="side-(\d)"', text) == ["0", "1"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_on_a_terminal_and_few_elsewhere() -> None:
    steps = [Step("programs", name, number, lambda _: None) for number in range(2) for name in "ab"]
    for stream, expected in (
        (io.StringIO(), "[  0 %] round 1, programs\n[ 50 %] round 2, programs\n"),
        (Terminal(), None),
    ):
        progress = Progress(stream)
        for place, step in enumerate(steps, 1):
            progress.tell(step, place, len(steps))
        progress.close()
        if expected is None:
            assert stream.getvalue().count("\r") == 5
            assert "\n" not in stream.getvalue()
        else:
            assert stream.getvalue() == expected
