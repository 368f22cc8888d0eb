# SPDX-License-Identifier: MIT
"""Options of the interpreter between ``slabmalloc run`` and its program: as behind ``python``, or refused in a line."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest
from commands import RUN, SLABMALLOC, run

from forms import IS_FREE_THREADED, needs_domains

if TYPE_CHECKING:
    from pathlib import Path

# What an interpreter made of its command line.
PLACE = "import sys; print(sys.flags, sys._xoptions, sys.warnoptions, sys.argv, sys.orig_argv)"

OPTIONS = [
    ["-b"],
    ["-bb", "-B"],
    ["-d"],
    ["-E"],
    ["-I"],
    ["-iq"],
    ["-O"],
    ["-OO"],
    ["-PR"],
    ["-s"],
    ["-S"],
    ["-u"],
    ["-W", "error", "-Wignore::DeprecationWarning:some module"],
    ["-X", "utf8", "-Xfaulthandler"],
    ["-uBX", "int_max_str_digits=700"],
    ["-sWerror", "-X", "--", "-X", "-u"],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("place.py", "-place.py"):
        (tmp_path / name).write_text(PLACE)
    (tmp_path / "second_line.py").write_text(f"this is no Python\n{PLACE}")
    return tmp_path


def assert_same(words: list[str], folder: Path, standard_input: str) -> None:
    stock = run([sys.executable, *words], cwd=folder, input=standard_input)
    ours = run([*RUN, "--quiet", *words], cwd=folder, input=standard_input)
    assert (ours.stdout, ours.stderr, ours.returncode) == (stock.stdout, stock.stderr, stock.returncode)
    assert "sys.flags(" in ours.stdout


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_they_say_what_they_say_to_python(options: list[str], folder: Path) -> None:
    assert_same([*options, "place.py", "-u", "--quiet"], folder, standard_input="print(sys.flags)\n")  # which -i reads


@pytest.mark.parametrize(
    "words",
    [
        ["-X", "utf8", "-m", "place", "-X"],
        ["-um", "place", "-B"],
        ["-uOmplace", "-B"],
        ["-Bc", PLACE, "-c"],
        [f"-Bc{PLACE}", "-m"],
        ["-B", "-", "-c"],
        ["-B", "--", "-place.py"],
        ["-x", "second_line.py"],
        ["-Bx", "second_line.py", "-x"],
    ],
    ids=" ".join,
)
def test_they_share_a_word_with_the_program_as_under_python(words: list[str], folder: Path) -> None:
    assert_same(words, folder, standard_input=PLACE)


def test_what_they_write_comes_once() -> None:
    for option in ("-v", "-Ximporttime"):
        lines = run([*RUN, "--quiet", option, "-c", ""]).stderr.splitlines()
        assert sum("import 'site'" in line or line.endswith("| site") for line in lines) == 1


def test_ours_stand_among_them_and_those_of_the_first_interpreter_come_before(folder: Path) -> None:
    ours = run([*RUN, "-B", "--quiet", "-X", "utf8", "--decay", "2", "-sm", "place"], cwd=folder)
    assert ours.stdout == run([sys.executable, "-B", "-X", "utf8", "-sm", "place"], cwd=folder).stdout
    for words in (["-B", "-m", "slabmalloc"], ["-Bm", "slabmalloc"], ["-Bmslabmalloc"]):
        ours = run([sys.executable, *words, "run", *RUN[4:], "--quiet", "-O", "place.py"], cwd=folder)
        assert ours.stdout == run([sys.executable, "-B", "-O", "place.py"], cwd=folder).stdout


@needs_domains
@pytest.mark.parametrize("option", ["-E", "-I", "-S", "-Xutf8"])
def test_the_program_is_served(option: str) -> None:
    done = run([*RUN, "--json", option, "-c", ""], env={**os.environ, "SLABMALLOC_DECAY_MS": "100"})
    domains = json.loads(done.stderr)["domains"]
    assert min(domains[name]["served_blocks"] for name in ("obj", "mem", "raw", "malloc")) > 0
    assert {domains[name]["passed_blocks"] for name in domains} == {0}


@pytest.mark.skipif(IS_FREE_THREADED, reason="the domains in question are never served")
def test_what_they_keep_from_being_served_is_said() -> None:
    line = "slabmalloc: obj and mem are not served: development mode (-X dev) has Python use allocators of its own; "
    for words in (["-X", "dev"], ["-uXdev=1"]):
        assert run([*RUN, "--quiet", *words, "-c", ""]).stderr.startswith(line)
    told = {**os.environ, "PYTHONMALLOC": "debug", "PYTHONDEVMODE": "1"}
    assert "PYTHONMALLOC=debug has Python use" in run([*RUN, "--quiet", "-c", ""], env=told).stderr
    for option in ("-E", "-I"):  # it does not hear of the variables then
        done = run([*RUN, "--json", option, "-c", ""], env=told)
        assert json.loads(done.stderr)["domains"]["obj"]["served_blocks"] > 0


@pytest.mark.parametrize(
    ("words", "told"),
    [(["-u"], "-u"), (["-X", "utf8", "-OWerror"], "-X utf8 -O -W error"), (["-W", "error::a b"], "-W 'error::a b'")],
)
def test_in_process_it_is_too_late(words: list[str], told: str) -> None:
    for program in (["-c", "print(1)"], ["-Bc", "print(1)"]):
        options = told + (" -B" if program[0] == "-Bc" else "")
        done = run([*SLABMALLOC, "run", "--in-process", *words, *program])
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"slabmalloc run: {options}: too late with --in-process, whose interpreter runs already; start that so: "
            f"python {options} -m slabmalloc run --in-process ...\n"
        )


@pytest.mark.skipif(IS_FREE_THREADED, reason="has the preload form alone")
def test_a_script_with_a_dash_in_process(folder: Path) -> None:
    program = "import sys; print(sys.argv)"
    (folder / "-m").write_text(program)
    done = run([*RUN, "--in-process", "--quiet", "--", "-m", "x"], cwd=folder)
    assert (done.stdout, done.stderr) == ("['-m', 'x']\n", "")


@pytest.mark.parametrize("words", [["-h"], ["-?"], ["-uh"], ["-X", "dev", "-h", "-c", "print(1)"]])
def test_help_is_of_run(words: list[str]) -> None:
    done = run([*RUN, *words])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: slabmalloc run ")
    assert "\nThe interpreter's options are passed on to it: -b -B -d -E -i -I -O -P -q " in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-V"], "-V runs nothing: python -V tells the interpreter's version, slabmalloc -V ours"),
        (["-uVc", ""], "-V runs nothing: "),
        (["-uZ", "place.py"], "unknown option -Z; the interpreter's options that are passed on to it are -b -B "),
        (["-u-", "place.py"], "unknown option --; "),
        (["-u", "-X"], "argument expected for the -X option\n"),
        (["-uW"], "argument expected for the -W option\n"),
        (["-um"], "argument expected for the -m option\n"),
        (["-c"], "argument expected for the -c option\n"),
        (["-u"], "what shall be run?"),
        (["-X", "place.py"], "what shall be run?"),
        (["-u", "--"], "what shall be run?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused(words: list[str], message: str) -> None:
    done = run([*RUN, *words])
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
