# SPDX-License-Identifier: MIT
"""Where the start-up file must do nothing, or can't do what is asked for: a line says so, and the program runs."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from started import IN_PROCESS, PACKAGE, TELL, make_environment, start

from forms import IS_FREE_THREADED, needs_domains
from slabmalloc.process.preload import WITHOUT_PRELOAD

# ---- nothing to do ----------------------------------------------------------------------------------------------

IMPORTED = "import sys; print([name for name in sys.modules if name.startswith('slabmalloc')])"


@pytest.mark.parametrize("value", [None, "", "0"])
def test_nothing_is_imported_where_nothing_is_asked_for(value: str | None) -> None:
    done = start("-c", IMPORTED, value=value)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
@pytest.mark.parametrize("value", ["preload", "in-process", "wrong"])
def test_nothing_is_imported_where_the_environment_is_ignored(option: str, value: str) -> None:
    done = start(option, "-c", IMPORTED, value=value)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize("value", ["prelaod", "yes", "in process", "PRELOAD"])
def test_a_wrong_value_is_named(value: str) -> None:
    done = start("-c", f"{TELL}raise SystemExit(3)", value=value)
    assert (done.returncode, done.stdout) == (3, "stock\n")
    expected = f"SLABMALLOC={value!r} is not known; there are: preload (or 1), in-process, 0; nothing is done"
    assert done.stderr == f"slabmalloc: {expected}\n"


def test_a_wrong_value_is_named_once_by_a_run() -> None:
    done = start("-m", "slabmalloc", "run", "--quiet", "-c", TELL, value="foo")
    assert (done.returncode, done.stdout) == (0, "preload\n")
    assert done.stderr.startswith("slabmalloc: SLABMALLOC='foo' is not known; ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("value", ["off", "No", "false"])
def test_words_that_mean_off(value: str) -> None:
    done = start("-c", TELL, value=value)
    assert (done.stdout, done.stderr) == ("stock\n", "")


@pytest.mark.parametrize("value", ["preload", IN_PROCESS])
def test_start_up_files_that_are_read_again(value: str) -> None:
    again = f"import site\nfor _ in range(2): site.addsitedir({str(PACKAGE.parent)!r})\n{TELL}"
    done = start("-c", again, value=value)
    assert (done.returncode, done.stdout, done.stderr) == (0, value.replace("-", " ") + "\n", "")
    # By a program that runs already: it must not begin anew.
    done = start("-S", "-c", f"print('once', flush=True)\n{again}", value=value)
    assert (done.returncode, done.stdout) == (0, "once\nstock\n")
    reason = "the program runs already, and reads start-up files only now"
    assert done.stderr == f"slabmalloc: SLABMALLOC={value} has no effect: {reason}\n"


# ---- other environments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["preload", IN_PROCESS])
def test_the_package_is_gone_and_the_start_up_file_is_not(value: str, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "one", has_package=False)
    done = start("-c", "print('well')", value=value, python=python)
    assert (done.returncode, done.stdout) == (0, "well\n")
    assert done.stderr == "slabmalloc: SLABMALLOC has no effect: No module named 'slabmalloc'\n"
    assert start("-c", "print('well')", value="0", python=python).stderr == ""


def test_a_package_that_fails(tmp_path: Path) -> None:
    (tmp_path / "slabmalloc").mkdir()
    (tmp_path / "slabmalloc" / "__init__.py").write_text("{}['this']")
    done = start("-c", "print('well')", variables={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (0, "well\n")
    assert done.stderr == "slabmalloc: SLABMALLOC has no effect: 'this'\n"


@pytest.mark.parametrize("failure", ["wrong value", "package missing"])
@pytest.mark.parametrize("stream", ["closed", "full"])
def test_standard_error_that_can_not_be_written(failure: str, stream: str, tmp_path: Path) -> None:
    def prepare() -> None:
        os.close(2)
        if stream == "full":
            os.open("/dev/full", os.O_WRONLY)

    python = make_environment(tmp_path / "one", has_package=failure != "package missing")
    program = (
        "from slabmalloc.process import start_file; print(start_file.outcome)\n" if failure == "wrong value" else ""
    )
    # At its end an interpreter tells by its status (120) that a stream could not be flushed: on stock too.
    program += "print('well', flush=True)\nimport os; os._exit(0)"
    done = start("-c", program, value="x", python=python, preexec_fn=prepare)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "well")
    if failure == "wrong value":
        assert done.stdout.startswith("SLABMALLOC='x' is not known")


def test_a_command_line_that_just_fits() -> None:
    """With the library's path beside it the system would not take it."""

    def run_with(size: int, option: str) -> subprocess.CompletedProcess[str]:
        words = ["x" * 100_000] * (size // 100_000) + ["x" * (size % 100_000)]
        return start(option, "-c", TELL, *words, preexec_fn=limit)

    def limit() -> None:  # arguments may take a quarter of the stack
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))

    fits, too_long = 0, 1 << 18
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        try:
            run_with(middle, "-E")
            fits = middle
        except OSError:
            too_long = middle
    done = run_with(fits, "-B")
    assert (done.returncode, done.stdout) == (0, "stock\n")
    reason = f"[Errno 7] Argument list too long: {sys.executable!r}"
    assert done.stderr == f"slabmalloc: SLABMALLOC=preload has no effect: {reason}\n"


# ---- a preload that does not take effect ------------------------------------------------------------------------


def without_its_library(library: str, folder: Path) -> str:
    """A copy of the package with something else for its preload library; what is said of that.

    "no library" is one of another machine, which the dynamic linker does not load.
    """
    copy = shutil.copytree(PACKAGE, folder / "slabmalloc", ignore=shutil.ignore_patterns("__pycache__"))
    path, reason = copy / "libslabmalloc.so", f"the dynamic linker did not load {{}}; {WITHOUT_PRELOAD}"
    content = bytearray(path.read_bytes())
    content[18:20] = b"\xff\xff"
    path.unlink()
    path.write_bytes(content)
    if library == "another library":
        mapped = Path("/proc/self/maps").read_text().splitlines()
        path.write_bytes(next(Path(line.split()[-1]) for line in mapped if "/libm.so" in line).read_bytes())
        reason = "{} is loaded, but the extension beside it is not made for it; install slabmalloc anew"
    return reason.format(path)


@pytest.mark.parametrize("library", ["no library", "another library"])
def test_a_preload_in_vain_is_tried_once(library: str, tmp_path: Path) -> None:
    reason = without_its_library(library, tmp_path)
    names = ["LD_PRELOAD", "SLABMALLOC", "SLABMALLOC_RUN_PID", "SLABMALLOC_START_PID"]
    child = f"import os; print([name for name in {names} if name in os.environ])"
    program = f"import os, subprocess, sys{TELL}subprocess.run([sys.executable, '-c', {child!r}])\n{child}\nsys.exit(3)"
    done = start("-u", "-c", program, variables={"PYTHONPATH": str(tmp_path), "LD_PRELOAD": "libc.so.6"})
    assert (done.returncode, done.stdout) == (3, "stock\n" + "['LD_PRELOAD']\n" * 2)
    lines = [line for line in done.stderr.splitlines() if "from LD_PRELOAD cannot be preloaded" not in line]
    assert lines == [f"slabmalloc: SLABMALLOC=preload has no effect: {reason}"]
    assert done.stderr.count("ld.so") == (library == "no library")


@pytest.mark.parametrize("library", ["no library", "another library"])
def test_a_run_in_vain_is_said(library: str, tmp_path: Path) -> None:
    reason = without_its_library(library, tmp_path)
    child = "import os; print([name for name in os.environ if name.startswith(('SLABMALLOC_', 'LD_PRE'))])"
    program = f"import os, subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])\n{child}\nsys.exit(3)"
    command = [sys.executable, "-m", "slabmalloc", "run", f"--summary={tmp_path}/summary", "-c", program]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    environment["PYTHONPATH"] = str(tmp_path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "[]\n[]\n")
    lines = [line for line in done.stderr.splitlines() if "from LD_PRELOAD cannot be preloaded" not in line]
    assert lines == [f"slabmalloc: nothing is served: {reason}"]


@pytest.mark.parametrize("damage", ["cut short", "empty", "junk"])
def test_a_library_that_is_damaged_is_not_preloaded(damage: str, tmp_path: Path) -> None:
    """The dynamic linker would map one that is cut short, and the process die of it before any line."""
    copy = shutil.copytree(PACKAGE, tmp_path / "slabmalloc", ignore=shutil.ignore_patterns("__pycache__"))
    library = copy / "libslabmalloc.so"
    content = library.read_bytes()
    library.unlink()
    library.write_bytes({"cut short": content[: len(content) // 2], "empty": b"", "junk": b"no library" * 10}[damage])
    reason = f"{library} can't be loaded: the file is damaged; install slabmalloc anew (pip install --force-reinstall "
    done = start("-c", TELL, variables={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (0, "stock\n")
    assert done.stderr.startswith(f"slabmalloc: SLABMALLOC=preload has no effect: {reason}")
    assert done.stderr.count("\n") == 1
    run = ["-m", "slabmalloc", "run", "-c", TELL]
    done = start(*run, value=None, variables={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"slabmalloc run: {reason}")


def test_an_installation_without_the_library(tmp_path: Path) -> None:
    copy = shutil.copytree(PACKAGE, tmp_path / "slabmalloc", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    assert not (copy / "libslabmalloc.so").exists()
    no_library = "has no libslabmalloc.so: it was installed without a C compiler; install one, then slabmalloc anew"
    for value, words in (("preload", no_library), ("in-process", "needs slabmalloc's native extension")):
        done = start("-c", "print('well')", value=value, variables={"PYTHONPATH": str(tmp_path)})
        assert (done.returncode, done.stdout) == (0, "well\n")
        assert done.stderr.startswith(f"slabmalloc: SLABMALLOC={value} has no effect: ")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("folder", ["with blank", "with:colon"])
def test_an_installation_whose_path_the_dynamic_linker_takes_for_two(folder: str, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / folder / "slabmalloc", ignore=shutil.ignore_patterns("__pycache__"))
    # PYTHONPATH can't hold the colon either.
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.path.insert(0, {str(tmp_path / folder)!r})")
    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "slabmalloc", "run"]
    done = subprocess.run([*command, "-c", TELL], env=variables, capture_output=True, text=True, check=False)
    library = tmp_path / folder / "slabmalloc" / "libslabmalloc.so"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"slabmalloc run: {library} can't be preloaded: ")
    assert "install slabmalloc under a path that has neither, or else: " in done.stderr
    assert done.stderr.endswith(f"{WITHOUT_PRELOAD}\n")
    if IS_FREE_THREADED:
        return
    remedy = [*command, "--in-process", "--quiet", "-c", TELL]
    done = subprocess.run(remedy, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "in process\n", "")


# ---- programs with an interpreter inside ------------------------------------------------------------------------


@needs_domains
def test_a_program_of_another_name_is_served_in_process(tmp_path: Path) -> None:
    python = make_environment(tmp_path / "one", "--copies")
    server = python.rename(python.with_name("server"))
    done = start("-c", TELL, python=server)
    assert (done.returncode, done.stdout) == (0, "in process\n")
    words = "SLABMALLOC=preload: nothing is preloaded, but served in process"
    assert done.stderr == f"slabmalloc: {words}: {server} is not the interpreter's own program\n"
    assert start("-c", TELL, python=server, value="in-process").stderr == ""


@needs_domains
def test_a_name_that_leads_to_another_program(tmp_path: Path) -> None:
    """As after ``exec -a python3``: what the interpreter takes for its program is the first of that name on PATH."""
    other = tmp_path / "python3"
    other.write_text("#!/bin/sh\necho another program\n")
    other.chmod(0o755)
    variables = {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    (tmp_path / "sitecustomize.py").write_text(f"import site; site.addsitedir({str(PACKAGE.parent)!r})")
    executable = os.path.realpath(sys.executable)
    done = start("-c", TELL, python="python3", executable=executable, variables=variables)
    assert (done.returncode, done.stdout) == (0, "in process\n")
    words = "SLABMALLOC=preload: nothing is preloaded, but served in process"
    assert done.stderr == f"slabmalloc: {words}: {executable} is not the interpreter's own program\n"


@needs_domains
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("server", "{} is not the interpreter's own program"),
        ("python3", "the interpreter's command line is not the process's"),  # where an interpreter takes it for its own
    ],
)
def test_an_embedded_interpreter_is_served_in_process(name: str, reason: str, tmp_path: Path) -> None:
    library = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME") or "")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not library.is_file() or library.suffix == ".a":
        pytest.skip("no compiler, or no shared libpython")
    program = tmp_path / name
    subprocess.run([compiler, str(Path(__file__).with_name("embeds.c")), "-o", str(program), "-ldl"], check=True)
    variables = {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    (tmp_path / "sitecustomize.py").write_text(f"import site; site.addsitedir({str(PACKAGE.parent)!r})")
    done = start(str(library), TELL, python=program, variables=variables)
    assert (done.returncode, done.stdout) == (0, "in process\n")
    words = "SLABMALLOC=preload: nothing is preloaded, but served in process"
    assert done.stderr == f"slabmalloc: {words}: {reason.format(program)}\n"
    # As if it were the interpreter of a run, which the library finds in the process when it begins.
    script = f'SLABMALLOC_RUN_PID=$$ LD_PRELOAD={PACKAGE}/libslabmalloc.so exec "$@"'
    words = ("-c", script, "sh", str(program), str(library), TELL)
    done = start(*words, python="/bin/sh", value=None, variables=variables)
    assert (done.returncode, done.stdout) == (0, "preload\n")
    assert done.stderr.startswith("slabmalloc: obj, mem and raw are served by malloc alone: ")
    assert done.stderr.count("\n") == 1
    done = start(str(library), TELL, python=program, value="in-process", variables=variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "in process\n", "")
