# SPDX-License-Identifier: MIT
"""The summary of ``slabmalloc run``: what it tells, where it goes, and that statistics print alike."""

from __future__ import annotations

import json
import os
import re
import sys
from textwrap import indent
from typing import TYPE_CHECKING

import pytest
from commands import FORMS, RUN, run

from forms import needs_domains
from slabmalloc.process import ProcessStats, SizeClassStats

if TYPE_CHECKING:
    from pathlib import Path


@needs_domains
@pytest.mark.parametrize("form", FORMS)
def test_the_summary_is_text_on_standard_error(form: str) -> None:
    done = run([*FORMS[form], "-c", "print('out')"])
    assert done.stdout == "out\n"
    heading, *rows = done.stderr.splitlines()
    assert heading.startswith("slabmalloc: ")
    assert " s on Python " in heading
    assert heading.endswith(f", {form}")
    served = ["obj", "mem", "raw", *(["malloc"] if form == "preload" else [])]
    words = [row.split()[0] for row in rows if not re.match(r"  [\d,]+ (B|others) ", row)]
    assert words == ["domain", *served, "class", ">", "all", "heap,", "now", "so", "cache", "process"]
    for word in ("served MiB", "passed MiB", "freed blocks", "live blocks", "mapped MiB", "resident MiB", "given back"):
        assert word in done.stderr


def table(lines: list[str], heading: str) -> list[list[str]]:
    """The rows below the line that begins with `heading`, in columns."""
    at = next(i for i, line in enumerate(lines) if line.split()[0] == heading)
    ends = re.compile(r"  (?:domain|class|heap,|so far) ")
    stop = next(i for i, line in enumerate(lines[at + 1 :], at + 1) if ends.match(line))
    return [re.split(r"\s{2,}", line.strip()) for line in lines[at + 1 : stop]]


def count(text: str) -> int:
    return int(text.replace(",", ""))


BUSY = """
import ctypes, threading
kept = [bytes(1000) for _ in range(20_000)]
raw_malloc, raw_free = ctypes.CDLL(None).PyMem_RawMalloc, ctypes.CDLL(None).PyMem_RawFree
raw_malloc.argtypes, raw_malloc.restype, raw_free.argtypes = [ctypes.c_size_t], ctypes.c_void_p, [ctypes.c_void_p]
blocks, are_made, are_freed = [], threading.Event(), threading.Event()
def make():
    blocks.extend(raw_malloc(700) for _ in range(500))
    are_made.set()
    are_freed.wait()
thread = threading.Thread(target=make)
thread.start()
are_made.wait()
for block in blocks: raw_free(block)
are_freed.set()
thread.join()
block = bytearray(1 << 22); del block; block = bytearray(1 << 22); del block
"""


@needs_domains
@pytest.mark.parametrize("form", FORMS)
def test_the_summary_accounts_for_classes_remote_frees_and_the_cache(form: str) -> None:
    lines = run([*FORMS[form], "-c", BUSY]).stderr.splitlines()
    *rows, others, large, everything = table(lines, "class")
    assert len(rows) == 8
    assert [row[0] for row in (others, large, everything)] == [others[0], "> 128 KiB", "all"]
    sizes = [count(name.removesuffix(" B")) for name, *_ in rows]
    assert sizes == sorted(sizes)
    by_size = dict(zip(sizes, rows, strict=True))
    assert float(by_size[1152][7]) >= 20  # what was there at its peak is told, though nothing is live at the end
    listed = [*rows, others]
    assert count(everything[1]) == sum(count(row[1]) for row in table(lines, "domain"))
    of_no_bytes = count(everything[1]) - sum(count(row[1]) for row in [*listed, large])
    assert 0 <= of_no_bytes < 100
    assert count(everything[2]) == sum(count(row[2]) for row in [*listed, large])
    assert count(everything[4]) == sum(count(row[4]) for row in listed) > 8
    assert [float(row[6]) <= float(row[5]) for row in [*listed, large, everything]] == [True] * 11
    assert float(everything[6]) > 0
    assert [float(row[7]) <= float(everything[7]) for row in [*rows, large]] == [True] * 9
    assert others[7] == "-"
    assert count(everything[8]) == sum(count(row[8]) for row in listed) >= 500
    live, free, tail, resting, mapped = (count(word) for word in table(lines, "heap,")[0][1:])
    assert live + free + tail + resting == mapped > 0
    cache = next(line for line in lines if line.startswith("  cache "))
    assert re.fullmatch(
        r"  cache    resting [\d.]+ MiB, [\d.]+ MiB of it in large blocks; [1-9]\d* large blocks were .*", cache
    )


def test_classes_that_held_more_than_a_slab_come_before_a_large_slab_with_little_in_it() -> None:
    small = [SizeClassStats(16 * number, 0, 0, 0, (number + 1) << 16, 0, 0, 0, 0) for number in range(1, 10)]
    large = [SizeClassStats(bytes_each << 10, 1, 1 << 20, 0, 1 << 20, 1, 0, 0, 0) for bytes_each in (16, 32, 64)]
    rows = table(indent(str(ProcessStats(classes=(*small, *large))), "  ").splitlines(), "class")
    assert [row[0] for row in rows[:8]] == [f"{16 * number} B" for number in range(2, 10)]


@needs_domains
@pytest.mark.parametrize("form", FORMS)
def test_statistics_print_as_the_tables_of_the_summary(form: str) -> None:
    program = (
        "import slabmalloc\nkept = [bytes(n) for n in range(9000)]\n"
        "stats = slabmalloc.stats()\nprint(stats)\nprint(repr(stats))\n"
        "print(sum(row.remote_frees for row in stats.classes))"
    )
    done = run([*FORMS[form], "-c", program])
    *tables, brief, remote = done.stdout.splitlines()
    told = done.stderr.splitlines()[1:]
    assert [line for line in tables if line.startswith(("domain", "class", "heap,"))] == [
        line[2:] for line in told if line.startswith(("  domain", "  class", "  heap,"))
    ]
    assert len(tables) == len(told)
    assert table([f"  {line}" for line in tables], "class")[-1][8] == remote
    assert brief.startswith("ProcessStats(live_objects=")
    assert len(brief) < 300


@needs_domains
@pytest.mark.parametrize("form", FORMS)
def test_the_summary_as_json(form: str, tmp_path: Path) -> None:
    program = "kept = [bytes(100) for _ in range(10_000)]"
    first = run([*FORMS[form], "--json", "--domains=obj", "-c", program]).stderr
    second = run([*FORMS[form], "--summary=json", "--domains=obj", "-c", program]).stderr
    run([*FORMS[form], "--json", "--domains=obj", "--summary", "here.json", "-c", program], cwd=tmp_path)
    for text in (first, second, (tmp_path / "here.json").read_text()):
        record = json.loads(text)
        assert record.pop("form") == form
        assert list(record["domains"]) == (["obj", "malloc"] if form == "preload" else ["obj"])
        assert record["domains"]["obj"]["served_blocks"] >= 10_000
        assert record["wall_seconds"] > 0
        assert record["resident_bytes"] > 0
        assert {"live_objects", "mapped_bytes", "peak_mapped_bytes", "given_back_bytes", "python"} <= record.keys()
        assert sum(row["live_objects"] for row in record["classes"]) + record["large_objects"] == record["live_objects"]


def test_the_summary_goes_to_the_place_named_at_the_start(tmp_path: Path) -> None:
    done = run([*RUN, "--summary=s.txt", "-c", "import os; os.chdir('/')"], cwd=tmp_path)
    assert done.stderr == ""
    assert (tmp_path / "s.txt").read_text().startswith("slabmalloc: ")


@pytest.mark.parametrize("form", FORMS)
def test_a_summary_that_can_not_be_written(form: str, tmp_path: Path) -> None:
    places = {
        "/dev/full": "No space left on device",
        f"{tmp_path}/none/s.txt": "No such file or directory",
        str(tmp_path): "Is a directory",
        f"{tmp_path}/{'s' * 3000}": "File name too long",
    }
    for place, reason in places.items():
        done = run([*FORMS[form], f"--summary={place}", "-c", "print(1)"])
        assert (done.returncode, done.stdout) == (0, "1\n")
        line, heading, *_ = done.stderr.splitlines()
        assert line == f"slabmalloc: can't write the summary: {place}: {reason}; it goes to standard error"
        assert heading.startswith("slabmalloc: ")
    os.mkfifo(fifo := tmp_path / "fifo")
    done = run([*FORMS[form], f"--summary={fifo}", "-c", ""])  # which nobody reads
    assert done.stderr.startswith(f"slabmalloc: can't write the summary: {fifo}: No such device or address; it goes to")
    done = run([*FORMS[form], "--json", "--summary=/dev/full", "-c", ""])
    assert json.loads(done.stderr.splitlines()[1])["form"] == form
    done = run([*FORMS[form], f"--summary={tmp_path}{'/s' * 2500}", "-c", ""])
    assert "File name too long; it goes to standard error\nslabmalloc: " in done.stderr


@pytest.mark.parametrize("form", FORMS)
def test_a_summary_for_a_reader_of_a_pipe(form: str, tmp_path: Path) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    done = run([*FORMS[form], f"--summary={fifo}", "-c", ""])
    assert done.stderr == ""
    assert os.read(reader, 1 << 16).startswith(b"slabmalloc: ")
    os.close(reader)


def test_the_summary_by_its_variables(tmp_path: Path) -> None:
    place, other = tmp_path / "here", tmp_path / "there"
    variables = {**os.environ, "SLABMALLOC_SUMMARY": str(place), "SLABMALLOC_SUMMARY_JSON": "1"}
    program = "import os; print([name for name in os.environ if name.startswith('SLABMALLOC_SUMMARY')])"
    for form in FORMS.values():
        for options, written in (["--quiet"], None), ([f"--summary={other}"], other), ([], place):
            done = run([*form, *options, "-c", program], env=variables)
            assert (done.stdout, done.stderr) == ("[]\n", "")
            assert [path for path in (place, other) if path.exists()] == ([written] if written else [])
            if written is not None:
                assert json.loads(written.read_text())["wall_seconds"] > 0
                written.unlink()
        done = run([*form, "-c", ""], env={**variables, "SLABMALLOC_SUMMARY": "", "SLABMALLOC_SUMMARY_JSON": "0"})
        assert done.stderr.startswith("slabmalloc: ")


def test_no_summary_from_children_nor_without_standard_error() -> None:
    forks = "import os, sys\nif os.fork() == 0: sys.exit(0)\nos.wait()"
    assert run([*RUN, "-c", forks]).stderr.count("slabmalloc: ") == 1
    assert (
        run([*RUN, "-c", "import os; os.close(2)"]).returncode
        == run([sys.executable, "-c", "import os; os.close(2)"]).returncode
    )


def test_the_summary_is_the_last_word() -> None:
    program = "import atexit, sys\natexit.register(print, 'at exit', file=sys.stderr)"
    lines = run([*RUN, "-c", program]).stderr.splitlines()
    assert lines[0] == "at exit"
    assert lines[1].startswith("slabmalloc: ")
