# SPDX-License-Identifier: MIT
"""What was asked for and is not in effect is said, in one line with the remedy; and nothing where all of it is.

A program tells who serves a domain by asking it for blocks and counting: what is said must be that.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from preloaded import LIBRARY, by_malloc, not_served
from started import start

from forms import needs_domains

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
RUN = ["-m", "slabmalloc", "run", "--quiet"]
SERVERS = (
    "from slabmalloc.process import _pymem; print([_pymem.server(name) for name in ('obj', 'mem', 'raw', 'malloc')])"
)

ALL_SERVED = "['obj', 'mem', 'raw', 'malloc']\n"
OWN = "[None, None, 'malloc', 'malloc']\n"
BY_MALLOC = "['malloc', 'malloc', 'malloc', 'malloc']\n"


def run(*words: str, **variables: str) -> tuple[str, str]:
    """What ``python words...`` writes: standard output and standard error."""
    done = start(*words, value=None, variables=variables)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@needs_domains
@pytest.mark.parametrize("allocator", ["debug", "default", "pymalloc", "pymalloc_debug", "malloc", "malloc_debug"])
def test_pythonmalloc_takes_domains_away(allocator: str) -> None:
    cause = f"PYTHONMALLOC={allocator}"
    expected = (BY_MALLOC, by_malloc(cause)) if allocator.startswith("malloc") else (OWN, not_served(cause))
    assert run(*RUN, "-c", SERVERS, PYTHONMALLOC=allocator) == expected
    assert run(*RUN, "--in-process", "-c", SERVERS, PYTHONMALLOC=allocator) == ("['obj', 'mem', 'raw', None]\n", "")


@needs_domains
def test_development_mode_takes_domains_away() -> None:
    expected = OWN, not_served("development mode (-X dev)")
    assert run("-X", "dev", *RUN, "-c", SERVERS) == expected
    assert run(*RUN, "-c", SERVERS, PYTHONDEVMODE="1") == expected
    # What the variable asks for comes first.
    expected = BY_MALLOC, by_malloc("PYTHONMALLOC=malloc")
    assert run("-X", "dev", *RUN, "-c", SERVERS, PYTHONMALLOC="malloc") == expected


@needs_domains
def test_only_what_was_asked_for_is_missed() -> None:
    assert run(*RUN, "--domains=mem", "-c", SERVERS, PYTHONMALLOC="debug") == (
        OWN,
        not_served("PYTHONMALLOC=debug", "mem is"),
    )
    for domains in ("--domains=raw", "--domains=none"):
        assert run(*RUN, domains, "-c", SERVERS, PYTHONMALLOC="debug") == (OWN, "")


@needs_domains
def test_nothing_is_said_where_all_is_served() -> None:
    assert run(*RUN, "-c", SERVERS) == (ALL_SERVED, "")
    assert run(*RUN, "-c", SERVERS, PYTHONMALLOC="") == (ALL_SERVED, "")
    assert run("-E", *RUN, "-c", SERVERS, PYTHONMALLOC="debug") == (ALL_SERVED, "")
    assert run("-X", "tracemalloc", *RUN, "-c", SERVERS) == (ALL_SERVED, "")


@needs_domains
@pytest.mark.parametrize("stream", ["closed", "full"])
def test_standard_error_that_can_not_be_written(stream: str) -> None:
    def prepare() -> None:
        os.close(2)
        if stream == "full":
            os.open("/dev/full", os.O_WRONLY)

    # At its end an interpreter would tell by its status that a stream could not be flushed.
    program = SERVERS + "; import os, sys; sys.stdout.flush(); os._exit(0)"
    done = start(*RUN, "-c", program, value=None, variables={"PYTHONMALLOC": "debug"}, preexec_fn=prepare)
    assert (done.returncode, done.stdout) == (0, OWN)


@needs_domains
def test_the_start_up_file_says_it_too_and_children_do_not() -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SERVERS!r}], check=True)"
    done = start("-c", child, value="preload", variables={"PYTHONMALLOC": "debug"})
    assert (done.stdout, done.stderr) == (OWN, not_served("PYTHONMALLOC=debug"))
    assert run(*RUN, "-c", child, PYTHONMALLOC="debug") == (OWN, not_served("PYTHONMALLOC=debug"))


# ---- another malloc ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def another(build: Callable[..., str]) -> str:
    """A malloc that may be preloaded before ours."""
    return build("another_malloc.c", "-shared", "-fPIC")


def line(another: str) -> str:
    remedy = "name libslabmalloc.so before it in LD_PRELOAD, or leave it out"
    return f"slabmalloc: malloc is not served: {another} comes first; {remedy}\n"


def preload_by_hand(*entries: str, command: tuple[str, ...] = (sys.executable, "-c", SERVERS)) -> tuple[str, str]:
    environment = {"PATH": os.environ["PATH"], "SLABMALLOC_DOMAINS": "raw"}
    environment["LD_PRELOAD"] = ":".join(entries)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, done.stderr


def test_a_preload_by_hand_behind_another(another: str) -> None:
    expected = "[None, None, 'raw', None]\n", line(another)
    assert preload_by_hand(another, LIBRARY) == expected
    assert preload_by_hand("", another, "libm.so.6", LIBRARY) == expected
    assert preload_by_hand(another, LIBRARY, command=("/bin/sh", "-c", ":")) == ("", line(another))
    # As `slabmalloc run` would be, if it did not come first.
    script = 'SLABMALLOC_RUN_PID=$$ LD_PRELOAD=$0 exec "$@"'
    command = ("/bin/sh", "-c", script, f"{another}:{LIBRARY}", sys.executable, "-c", SERVERS)
    assert preload_by_hand(LIBRARY, command=command) == expected


def test_doctor_tells_it_too(another: str) -> None:
    command = (sys.executable, "-m", "slabmalloc", "doctor", "--json")
    found = json.loads(preload_by_hand(another, LIBRARY, command=command)[0])["domains"]
    reason = line(another).removeprefix("slabmalloc: malloc is ").removesuffix("\n")
    assert (found["raw"], found["malloc"]) == ("served", reason)
    assert found["numpy"] in (reason, "served, by raw", "NumPy is not installed here")


def test_a_preload_by_hand_before_another_or_behind_what_has_no_malloc(another: str) -> None:
    expected = "[None, None, 'raw', 'malloc']\n", ""
    assert preload_by_hand(LIBRARY) == expected
    assert preload_by_hand(LIBRARY, another) == expected
    assert preload_by_hand("libm.so.6", LIBRARY) == expected


def test_a_run_comes_before_another(another: str) -> None:
    output, errors = run(*RUN, "--domains=raw", "-c", SERVERS, LD_PRELOAD=another)
    assert (output, errors) == ("[None, None, 'raw', 'malloc']\n", "")


def test_the_launcher_of_a_run_is_not_the_program(another: str) -> None:
    """It has the library behind the other one, and the program that it becomes before it."""
    output, errors = run(*RUN, "--domains=raw", "-c", SERVERS, LD_PRELOAD=f"{another}:{LIBRARY}")
    assert (output, errors) == ("[None, None, 'raw', 'malloc']\n", "")


def test_a_program_with_a_malloc_of_its_own(build: Callable[..., str]) -> None:
    """Said of the Python of a run. Of others not: that would be nobody's fault, nor any preload's."""
    program = build("own_malloc.c", "-rdynamic", str(HERE / "another_malloc.c"))
    script = f"SLABMALLOC_RUN_PID=$$ LD_PRELOAD={LIBRARY} exec "
    assert preload_by_hand("libm.so.6", command=("/bin/sh", "-c", script + program)) == ("", "")
    assert preload_by_hand("libm.so.6", LIBRARY, command=(program,)) == ("", "")
    python = build("own_malloc_of_python.c", "-rdynamic", str(HERE / "another_malloc.c"))
    words = "has one of its own, and comes before whatever is preloaded"
    expected = f"slabmalloc: malloc is not served: {python} {words}\n"
    command = ("/bin/sh", "-c", f"SLABMALLOC_DOMAINS=none {script}{python}")
    assert preload_by_hand("libm.so.6", command=command) == ("", expected)
    assert preload_by_hand("libm.so.6", LIBRARY, command=(python,)) == ("", "")


# ---- a shell script in the interpreter's place ------------------------------------------------------------------


@pytest.fixture
def run_by(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Runs `SERVERS` where `sys.executable` is a script of the shell: its lines, and further options."""

    def run_by(lines: str, *options: str) -> tuple[str, str]:
        wrapper, launcher = tmp_path / "python", tmp_path / "launch.py"
        wrapper.write_text(f'#!/bin/sh\n{lines}\nexec {sys.executable} "$@"\n')
        wrapper.chmod(0o755)
        words = ["run", "--domains=raw", *options, "-c", SERVERS]
        launcher.write_text(
            f"import sys; sys.executable = {str(wrapper)!r}\nfrom slabmalloc.cli import main; main({words})"
        )
        return run(str(launcher))

    return run_by


@pytest.mark.parametrize("option", ["--no-children", "--huge-pages"])
def test_the_python_that_a_shell_becomes_is_served(
    run_by: Callable[..., tuple[str, str]], option: str, tmp_path: Path
) -> None:
    place = tmp_path / "summary"
    output, errors = run_by("/bin/true", option, "--json", f"--summary={place}")
    assert output == "[None, None, 'raw', 'malloc']\n"
    assert "not served" not in errors
    assert json.loads(place.read_text())["python"] == platform.python_version()


def test_a_shell_that_keeps_the_library_from_python_is_found_out(run_by: Callable[..., tuple[str, str]]) -> None:
    output, errors = run_by("unset LD_PRELOAD", "--quiet")
    assert output == "[None, None, None, None]\n"
    assert errors.startswith(f"slabmalloc: nothing is served: the dynamic linker did not load {LIBRARY}; ")
    assert errors.count("\n") == 1
