# SPDX-License-Identifier: MIT
"""``slabmalloc bench``: run on very small programs; what it prints and writes, and what it says if something fails."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import slabmalloc
from slabmalloc.bench.peers import c_library
from slabmalloc.bench.sections import SECTIONS

pytest.importorskip("slabmalloc.process._pymem", reason="needs the native extension")
pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no /proc/PID/smaps_rollup here")

BENCH = [sys.executable, "-m", "slabmalloc", "bench"]
COMPILER = shlex.split(os.environ.get("CC", "cc"))
needs_compiler = pytest.mark.skipif(not COMPILER or not shutil.which(COMPILER[0]), reason="no C compiler")


class Bench:
    """The verb, run in a folder of its own on programs of the smallest size, for one round."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [*BENCH, "--scale=1", "--rounds=1", "--json=out.json", "--html=out.html", *words]
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def measure(self, *words: str, **environment: str) -> str:
        done = self.run(*words, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "out.json").read_text())
        return found

    @property
    def page(self) -> str:
        return (self.folder / "out.html").read_text(encoding="utf-8")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


class Page(HTMLParser):
    """Fails where a tag is closed that is not open, or where the page refers to anything outside of it."""

    VOID = ("meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))
        assert set(self.targets) <= set(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base")
        for name, value in attrs:
            assert name not in ("src", "srcset", "data", "action", "xlink:href", "style")
            if name == "href":
                assert value is not None
                assert value.startswith("#")
                self.targets.append(value[1:])
            if name == "id":
                self.ids.append(value or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


SPREAD = {"median": float, "low": float, "high": float, "against": str}


def is_spread(found: dict[str, Any]) -> bool:
    return {name: type(value) for name, value in found.items()} == SPREAD and found["low"] <= found["high"]


def test_everything_is_measured_and_told_three_times(bench: Bench) -> None:
    some = ("dict_churn", "json_loads", "records", "cache shrunk", "python -c pass", "a buffer of 64", "pair, 64")
    said = bench.measure("--quick", "--no-peers", *(f"--only={name}" for name in some))
    record = bench.record

    assert set(record) == {
        *("schema", "command", "started", "seconds", "size", "machine", "left_out", "failures", "notes", "lost"),
        "sections",
    }
    assert record["schema"] == 1
    assert record["size"] == {"percent": 1, "quick": True}
    assert record["command"].startswith("slabmalloc bench --scale=1 ")
    assert str(bench.folder) not in json.dumps(record)
    assert record["failures"] == []
    facts = record["machine"]
    assert {"processor", "processors", "memory_kib", "kernel", "c_library", "transparent_huge_pages"} <= set(facts)
    assert {"load_average", "load_average_before", "python", "packages", "peers", "compiler"} <= set(facts)

    names = [section["name"] for section in record["sections"]]
    assert set(names) >= {"programs", "heap", "release", "startup", "library"}
    for section in record["sections"]:
        assert section["sides"][:2] == ["stock", "slabmalloc"]
        assert section["rows"]
        for row in section["rows"]:
            assert row["rounds"] == 1
            stock, ours = row["cells"]["stock"], row["cells"]["slabmalloc"]
            assert stock["ratio"] is None
            assert is_spread(ours["ratio"])
            assert ours["ratio"]["against"] == "stock"
            assert row["verdicts"]["stock"] in ("lost", "level", "won")
            if "geometric mean" not in row["name"]:
                assert is_spread(stock["figure"])
                assert ours["ratio"]["median"] == pytest.approx(ours["figure"]["median"] / stock["figure"]["median"])
        assert all(task["raw"] for task in section["tasks"])
    assert all(name in SECTIONS for name in names)

    assert re.search(r"^\| Whole Python programs: time +\| stock +\| slabmalloc ", said, re.M)
    assert re.search(r"^\| json_loads +\| [\d.]+ ms +\| \d\.\d\d ", said, re.M)
    assert re.search(r"^\| geometric mean of 2 ", said, re.M)
    assert re.search(r"^slabmalloc loses \d+ of \d+ rows", said, re.M)
    assert said.endswith("all figures: out.json\nthe page: out.html\n")

    page = Page(bench.page)
    assert {"glance", "lost", "programs", "release", "library", "method", "machine"} <= set(page.ids)
    assert page.count["polyline"] == 2
    assert page.count["svg"] > 10
    assert not re.search(r"https?:|//|@import|url\(", re.sub(r"\s+", "", bench.page.replace("<!", "")))
    for name in ("json_loads", "cache shrunk to 5 %", facts["processor"], facts["kernel"], record["command"]):
        assert name in page.text
    assert "prefers-color-scheme: dark" in bench.page


def test_the_lost_rows_are_those_of_the_record(bench: Bench) -> None:
    bench.measure("--no-peers", "--only=python -c pass", "--rounds=3")
    (row,) = bench.record["sections"][0]["rows"]
    assert row["verdicts"] == {"stock": "lost"}  # an interpreter is started twice
    assert bench.record["lost"] == [["startup", "python -c pass", "time on the wall"]]
    lost = bench.page.partition('id="lost"')[2].partition("</section>")[0]
    assert "Start-up: python -c pass" in lost
    assert "1 of 1 row to stock" in lost


def test_without_peers_it_says_so(bench: Bench) -> None:
    said = bench.measure("--no-peers", "--only=python -c pass")
    assert "no peer takes part" in said
    assert "libjemalloc2" in said
    assert bench.record["machine"]["peers"] == {}
    assert "no peer takes part" in Page(bench.page).text


def test_without_a_compiler_malloc_is_left_out(bench: Bench) -> None:
    said = bench.measure("--no-peers", "--only=malloc", "--only=python -c pass", CC="there-is-no-compiler")
    assert "not measured: malloc in C: no C compiler here (there-is-no-compiler; CC names another)" in said
    assert [section["name"] for section in bench.record["sections"]] == ["startup"]
    assert bench.record["machine"]["compiler"] is None
    assert "there-is-no-compiler" in Page(bench.page).text


def test_with_nothing_to_measure_there_are_still_table_and_page(bench: Bench) -> None:
    said = bench.measure("--no-peers", "--only=malloc", CC="there-is-no-compiler")
    assert "slabmalloc was compared with nobody." in said
    Page(bench.page)


def test_an_installation_without_the_extension_measures_the_library_in_plain_python(bench: Bench) -> None:
    package = Path(slabmalloc.__file__).parent
    shutil.copytree(package, bench.folder / "path" / "slabmalloc", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    words = ("--no-peers", "--quick", "--only=a buffer of 64 B", "--only=pass")
    said = bench.measure(*words, PYTHONPATH=str(bench.folder / "path"), PYTHONWARNINGS="ignore")
    assert "not measured: slabmalloc: not in effect: exit status 2: " in said
    assert "libslabmalloc.so" in said
    sides = {section["name"]: section["sides"] for section in bench.record["sections"]}
    assert sides["startup"] == ["stock"]
    assert bench.record["sections"][-1]["rows"][0]["verdicts"]["stock"] == "lost"
    Page(bench.page)


def library(folder: Path, constructor: str) -> str:
    """A shared library with `constructor` as the body of what is called when it is loaded."""
    source, target = folder / "peer.c", folder / "libpeer.so"
    headers = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n#include <fcntl.h>\n"
    source.write_text(f"{headers}__attribute__((constructor)) static void begin(void)\n{{\n{constructor}\n}}\n")
    subprocess.run([*COMPILER, "-D_GNU_SOURCE", "-shared", "-fPIC", str(source), "-o", str(target)], check=True)
    return str(target)


@needs_compiler
def test_a_peer_that_crashes_at_once_is_left_out_with_its_signal(bench: Bench, tmp_path: Path) -> None:
    path = library(tmp_path, "abort();")
    said = bench.measure("--no-peers", f"--peer=<crash>={path}", "--only=python -c pass")
    assert "not measured: <crash>: not in effect: signal SIGABRT" in said
    assert "<crash>" in Page(bench.page).text


IN_DICT_CHURN = """
    char words[4096];
    int file = open("/proc/self/cmdline", O_RDONLY);
    ssize_t length = read(file, words, sizeof words);
    close(file);
    if (length > 0 && memmem(words, (size_t)length, "dict_churn", 10))
        {};
"""


@needs_compiler
def test_a_peer_that_crashes_later_is_a_row_that_says_so(bench: Bench, tmp_path: Path) -> None:
    path = library(tmp_path, IN_DICT_CHURN.replace("{}", 'fputs("heap corrupt\\n", stderr), abort()'))
    said = bench.measure("--no-peers", f"--peer=mine={path}", "--only=dict_churn", "--only=json_loads")
    assert re.search(r"^\| dict_churn .* \| failed +\|", said, re.M)
    assert "failed: programs, dict_churn: mine: signal SIGABRT: heap corrupt" in said
    rows = {row["name"]: row["cells"] for row in bench.record["sections"][0]["rows"] if row["measure"] == "time"}
    assert rows["dict_churn"]["mine"]["failed"] == "signal SIGABRT: heap corrupt"
    assert is_spread(rows["json_loads"]["mine"]["ratio"])
    assert "mine" not in rows["geometric mean of 2"]  # it has one program less than the others
    assert "mine failed" in Page(bench.page).text


MALLOC = """
#include <stddef.h>
void *__libc_malloc(size_t size);
void __libc_free(void *block);
void *malloc(size_t size) { return __libc_malloc(size); }
void free(void *block) { __libc_free(block); }
"""


@needs_compiler
def test_the_price_of_the_hardened_mode_stands_beside_its_peers(bench: Bench, tmp_path: Path) -> None:
    if c_library() == "unknown":
        pytest.skip("no GNU C library to pass malloc on to")
    source, peer = tmp_path / "malloc.c", tmp_path / "libhardened.so"
    source.write_text(MALLOC)
    subprocess.run([*COMPILER, "-shared", "-fPIC", str(source), "-o", str(peer)], check=True)
    some = ("--only=dict_churn", "--only=json_loads", "--only=pair, 64 B", "--only=pass")
    said = bench.measure("--no-peers", f"--peer=hardened_malloc={peer}", *some)
    ours, theirs = "slabmalloc, hardened", "hardened_malloc"
    sides = {section["name"]: section["sides"] for section in bench.record["sections"]}
    assert sides == {
        "programs": ["stock", "slabmalloc", ours, theirs],
        "startup": ["stock", "slabmalloc"],
        "malloc": ["stock", "slabmalloc", ours, theirs],
    }
    rows = [row for section in bench.record["sections"] for row in section["rows"] if section["name"] != "startup"]
    assert len(rows) == 7
    for row in rows:
        assert row["to_best"] is None
        assert set(row["hardened"]) == {"slabmalloc", theirs}
        assert all(map(is_spread, row["hardened"].values()))
        assert set(row["hardened_verdicts"]) == {theirs}
    (pair,) = (row for row in rows if row["name"] == "pair, 64 B")
    assert (
        pair["hardened"]["slabmalloc"]["median"] > 1.5
    )  # else it is not in effect: each block is zeroed and kept back

    title = "Whole Python programs, hardened: time"
    head = rf"^\| {title} +\| stock +\| {ours} +\| {theirs} +\| of slabmalloc +\| of {theirs} +\|$"
    assert re.search(head, said, re.M)
    assert len(re.findall(rf"hardened|{theirs}", said.partition(title)[0])) == 0  # the table of the default mode
    assert re.search(r"Hardened, it loses \d of 7 rows to hardened_malloc\.$", said, re.M)
    assert "no peer takes part" in said  # of those that the default mode is compared with
    page = Page(bench.page)
    assert re.search(r"[\d.]+ of slabmalloc [\d.]+ of hardened_malloc", page.text)
    assert "of 7 rows to hardened_malloc" in page.text


@needs_compiler
def test_a_hardened_malloc_that_crashes_is_noted_with_what_may_help(bench: Bench, tmp_path: Path) -> None:
    path = library(tmp_path, IN_DICT_CHURN.replace("{}", "abort()"))
    said = bench.measure("--no-peers", f"--peer=hardened_malloc={path}", "--only=dict_churn")
    assert "failed: programs, dict_churn: hardened_malloc: signal SIGABRT" in said
    assert re.search(r"^note: hardened_malloc .* vm\.max_map_count may be too low \(here \w+;", said, re.M)
    assert "hardened_malloc failed" in Page(bench.page).text


def test_what_the_dynamic_linker_does_not_load_is_not_measured_as_stock(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "libnone.so").write_text("this is no library")
    said = bench.measure("--no-peers", f"--peer=none={tmp_path / 'libnone.so'}", "--only=pair, 64 B", "--only=pass")
    assert "not measured: none: not in effect" in said
    assert all("none" not in section["sides"] for section in bench.record["sections"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--only=nonsense",),
            "--only nonsense: no such section or row; there are\n  programs: binary_trees, json_loads",
        ),
        (("--rounds=0",), "'0' is no whole number from 1 on"),
        (("--scale=much",), "'much' is no whole number from 1 on"),
        (("--peer=jemalloc",), "'jemalloc': want NAME=PATH, as in mimalloc=/usr/local/lib/libmimalloc.so"),
        (("--peer=a=/none.so",), "there is no file /none.so; give the path of a shared library"),
        (("--json=/none/a.json",), "can't write /none/a.json: its directory is missing or not writable"),
        (("--html=/",), "/ is a directory; give the name of a file"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_bad_input_is_named_with_its_remedy(bench: Bench, words: tuple[str, ...], message: str) -> None:
    done = bench.run(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(bench.folder.iterdir()) == []


def test_json_may_go_to_standard_output(bench: Bench) -> None:
    done = bench.run("--no-peers", "--only=python -c pass", "--json=-")
    assert json.loads(done.stdout)["schema"] == 1
    assert "the page: out.html" in done.stderr
    assert [path.name for path in bench.folder.iterdir()] == ["out.html"]


def test_files_have_a_name_of_their_own_by_default(tmp_path: Path) -> None:
    words = [*BENCH, "--no-peers", "--rounds=1", "--only=python -c pass"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    json_file, html_file = sorted(path.name for path in tmp_path.iterdir())[::-1]
    assert re.fullmatch(r"slabmalloc-bench-\d{8}T\d{6}Z\.json", json_file)
    assert html_file == json_file.replace(".json", ".html")


def test_what_was_measured_before_an_interrupt_is_reported(bench: Bench) -> None:
    words = ["--no-peers", "--scale=1", "--rounds=10000", "--only=dict_churn", "--json=out.json", "--html=out.html"]
    with subprocess.Popen(
        [*BENCH, *words], cwd=bench.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any("round 3, programs" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in said
    (row, *_) = bench.record["sections"][0]["rows"]
    assert row["rounds"] >= 2
    assert bench.record["left_out"] == {}
    assert row["cells"]["slabmalloc"]["failed"] == ""
    assert "interrupted" in Page(bench.page).text
