# SPDX-License-Identifier: MIT
"""The corpus of misuse, run: programs on malloc and in Python, each in a process of its own. (The C API's: run.py.)"""

from __future__ import annotations

import functools
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from corpus import HERE, expected

from forms import IS_FREE_THREADED
from slabmalloc.process import preload
from stop_line import stop_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PYTHON = sorted(path for path in (HERE / "python").glob("*_*.py"))
DOMAINS = [source for source in PYTHON if "stops" in expected(source)]
API = [source for source in PYTHON if "raises" in expected(source)]
MALLOC = sorted((HERE / "malloc").glob("*.c*"))

try:
    LIBRARY, NO_LIBRARY = preload.library(), ""
except RuntimeError as reason:
    LIBRARY, NO_LIBRARY = "", str(reason)

needs_library = pytest.mark.skipif(not LIBRARY, reason=NO_LIBRARY or "there")


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    )


def told(output: str) -> dict[str, str]:
    """The addresses that a program told, by name: `NAME=0x7f...`, a line each, before all else."""
    return dict(re.findall(r"^([A-Z]+)=(0x[0-9a-f]+)$", output, re.MULTILINE))


def check_stop(done: subprocess.CompletedProcess[str], text: str, *, is_python: bool) -> None:
    """The process told ADDRESS, and stopped with exactly one line and SIGABRT."""
    address = told(done.stdout).get("ADDRESS")
    assert address is not None, done
    assert done.stderr == stop_line(text, int(address, 16), is_python=is_python)
    assert (done.stdout, done.returncode) == (f"ADDRESS={address}\n", -signal.SIGABRT)


def names(sources: list[Path]) -> list[str]:
    return [source.name for source in sources]


# ---- malloc -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    folder = tmp_path_factory.mktemp("misuse")

    @functools.cache
    def build(source: Path) -> str:
        is_cxx = source.suffix == ".cc"
        compiler = shutil.which("c++" if is_cxx else "cc")
        if compiler is None:
            pytest.skip("no compiler")
        words = ["-std=c++17" if is_cxx else "-std=gnu11", "-O1", "-fno-builtin", "-g", "-Wall", "-Wextra", "-pthread"]
        done = subprocess.run(
            [compiler, *words, str(source), "-o", str(folder / source.stem)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return str(folder / source.stem)

    return build


@needs_library
@pytest.mark.parametrize("source", MALLOC, ids=names(MALLOC))
def test_malloc(build: Callable[[Path], str], source: Path) -> None:
    done = run([build(source)], LD_PRELOAD=LIBRARY)
    check_stop(done, expected(source)["stops"], is_python=False)


@needs_library
@pytest.mark.parametrize("source", MALLOC, ids=names(MALLOC))
def test_malloc_hardened(build: Callable[[Path], str], source: Path) -> None:
    """It stops in the same call, or before. What it says of the slab is another matter: slots are random, and some are
    set aside."""
    done = run([build(source)], LD_PRELOAD=LIBRARY, SLABMALLOC_HARDENED="1")
    address = told(done.stdout).get("ADDRESS")
    assert address is not None, done
    assert re.fullmatch(rf"slabmalloc: .* of {address} \(malloc\): .*\n", done.stderr)
    assert done.returncode == -signal.SIGABRT


# ---- Python -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", API, ids=names(API))
def test_python_api(source: Path) -> None:
    pytest.importorskip("slabmalloc._native", reason="needs the native extension")
    done = run([sys.executable, str(source)])
    text = expected(source)["raises"]
    for name, address in told(done.stdout).items():
        text = text.replace(name, address)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == text
    assert done.returncode == 0


FORMS = {
    "preload": ["-m", "slabmalloc", "run", "--quiet", *(["--domains=raw"] if IS_FREE_THREADED else [])],
    "in process": [],
}
CASES = [
    (form, domain, source)
    for source in DOMAINS
    for form in expected(source).get("forms", ", ".join(FORMS)).split(", ")
    for domain in expected(source).get("domains", "obj, mem, raw").split(", ")
]


@pytest.mark.parametrize(
    ("form", "domain", "source"), CASES, ids=[f"{source.name}-{domain}-{form}" for form, domain, source in CASES]
)
def test_python_domain(form: str, domain: str, source: Path) -> None:
    pytest.importorskip("slabmalloc.process._pymem", reason="needs the native extension")
    if IS_FREE_THREADED and domain != "raw":
        pytest.skip("a free-threaded interpreter keeps obj and mem to itself")
    if form == "preload" and not LIBRARY:
        pytest.skip(NO_LIBRARY)
    done = run([sys.executable, *FORMS[form], str(source), domain])
    check_stop(done, expected(source)["stops"].replace("DOMAIN", domain), is_python=True)


def test_every_program_says_what_it_must_do() -> None:
    assert set(PYTHON) == {*DOMAINS, *API}
    assert all("stops" in expected(source) for source in MALLOC)
    assert len(PYTHON) >= 40 <= len(MALLOC)


# ---- to see more --------------------------------------------------------------------------------------------------


@needs_library
@pytest.mark.parametrize("value", ["1", "0", ""])
def test_c_stack(build: Callable[[Path], str], value: str) -> None:
    program = build(HERE / "malloc" / "free_twice.c")
    done = run([program], LD_PRELOAD=LIBRARY, SLABMALLOC_BACKTRACE=value)
    first, *stack = done.stderr.splitlines()
    assert first.startswith("slabmalloc: double free of 0x")
    assert done.returncode == -signal.SIGABRT
    if value == "1":
        assert any(line.startswith(LIBRARY) for line in stack)
        assert any(line.startswith(program) for line in stack)
    else:
        assert stack == []


@pytest.mark.parametrize("form", FORMS)
def test_python_stack(form: str) -> None:
    pytest.importorskip("slabmalloc.process._pymem", reason="needs the native extension")
    if form == "preload" and not LIBRARY:
        pytest.skip(NO_LIBRARY)
    source = HERE / "python" / "domain_free_twice.py"
    done = run([sys.executable, *FORMS[form], str(source), "raw"], PYTHONFAULTHANDLER="1", SLABMALLOC_BACKTRACE="1")
    first, *stack = done.stderr.splitlines()
    assert first.startswith("slabmalloc: double free of 0x")
    assert "Fatal Python error: Aborted" in stack
    last_line = len(source.read_text().splitlines())
    assert f'  File "{source}", line {last_line} in <module>' in stack
    assert any(re.match(r".*/(libslabmalloc|slabmalloc/.*_pymem\..*)\.so\b", line) for line in stack), stack
    assert done.returncode == -signal.SIGABRT


@needs_library
def test_nobody_to_tell(build: Callable[[Path], str]) -> None:
    """Standard error is closed: it ends by SIGABRT all the same."""
    program = build(HERE / "malloc" / "free_twice.c")
    done = run(["sh", "-c", 'exec "$0" 2>&-', program], LD_PRELOAD=LIBRARY)
    assert done.returncode == -signal.SIGABRT
