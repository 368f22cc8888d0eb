# SPDX-License-Identifier: MIT
"""The start-up file: what SLABMALLOC in the environment does to programs whose command line nobody changed.

Programs run beside stock, each in fresh processes: what they see of themselves, and how they end, must be the same.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest
from preloaded import LIBRARY, RUN
from started import IN_PROCESS, PROGRAM, SERVED, TELL, assert_same, environment, make_environment, start

from forms import IS_FREE_THREADED, needs_domains

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "place.py").write_text(PROGRAM)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(PROGRAM)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", PROGRAM)
    return tmp_path


# ---- on the preload library -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["place.py", "-m", "--", "-c", "", "x y"],
        ["package"],
        ["archive.zip", "x"],
        ["-m", "place", "-c", "x"],
        ["-c", PROGRAM, "-m", "é", "\udcff"],
        ["-", "x"],
        [],
        ["-OO", "-W", "error", "-X", "utf8", "-Xdev", "-uBs", "-P", "place.py"],
        ["-i", "-q", "-c", PROGRAM],
    ],
    ids=["script", "folder", "archive", "module", "command", "stdin", "nothing", "options", "inspection"],
)
def test_a_program_starts_as_on_stock(arguments: list[str], folder: Path) -> None:
    is_read = arguments[:1] in ([], ["-"])
    # In development mode a line would tell of the domains that are asked for and not served.
    variables = {"SLABMALLOC_DOMAINS": "none"} if "-Xdev" in arguments else {}
    assert_same(*arguments, cwd=folder, input=PROGRAM if is_read else "", variables=variables)


def test_a_program_in_a_pipe_of_the_shell() -> None:
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" <(echo "$0") x < <(echo line)', f"{TELL}\nprint(input())"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "preload\nline\n", "")


@pytest.mark.parametrize(
    "variables",
    [{"LANG": "C"}, {"LANG": "C", "LC_CTYPE": ""}, {"LANG": "C", "LC_CTYPE": "C.UTF-8"}, {"LC_ALL": "C"}],
    ids=str,
)
def test_the_locale_is_as_on_stock(variables: dict[str, str]) -> None:
    assert_same("-c", PROGRAM, "é", variables=variables)


def test_signals_are_as_on_stock() -> None:
    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])

    done = assert_same("-c", PROGRAM, preexec_fn=prepare)
    assert "(2, <Handlers.SIG_IGN: 1>)" in done.stdout
    assert "{<Signals.SIGUSR1: 10>}" in done.stdout


ENDS = {
    "exit": "sys.exit(7)",
    "exit_text": "sys.exit('that was it')",
    "error": "1 / 0",
    "exit_now": "os._exit(5)",
    "terminated": "os.kill(os.getpid(), 15)",
    "interrupted": "os.kill(os.getpid(), 2)",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends_as_on_stock(end: str, tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(f"import os, sys{TELL}sys.stdout.flush()\n{ENDS[end]}\n")
    done = assert_same("ends.py", cwd=tmp_path)
    expected = {"exit": 7, "exit_text": 1, "error": 1, "exit_now": 5, "terminated": -15, "interrupted": -2}
    assert done.returncode == expected[end]


def test_streams_that_are_closed(tmp_path: Path) -> None:
    program = f"{SERVED}with open('form', 'w') as file: file.write(served())"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment(),
        cwd=tmp_path,
        preexec_fn=lambda: [os.close(number) for number in (0, 1, 2)],
    ) as process:
        assert process.wait(timeout=60) == 0
    assert (tmp_path / "form").read_text() == "preload"


def test_the_process_stays_the_same() -> None:
    code = f"import os{TELL}print(os.getpid())"
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.communicate(timeout=60)[0] == f"preload\n{process.pid}\n"


def test_one_is_preload_and_other_preloads_stay_behind_ours() -> None:
    program = f"import os{TELL}print(os.environ['LD_PRELOAD'])"
    done = start("-c", program, value="1", variables={"LD_PRELOAD": "libm.so.6"})
    assert (done.stdout, done.stderr) == (f"preload\n{LIBRARY}:libm.so.6\n", "")


def test_under_slabmalloc_run(tmp_path: Path) -> None:
    done = start("-m", "slabmalloc", "run", *RUN[4:], "--json", f"--summary={tmp_path}/s", "-c", TELL)
    assert (done.returncode, done.stdout, done.stderr) == (0, "preload\n", "")
    assert json.loads((tmp_path / "s").read_text())["form"] == "preload"


@pytest.mark.parametrize("options", [(), ("--copies",), ("--system-site-packages",)], ids=" ".join)
def test_virtual_environments(options: tuple[str, ...], tmp_path: Path) -> None:
    python = make_environment(tmp_path / "one", *options)
    done = assert_same("-c", PROGRAM, python=python)
    assert f"{python} {tmp_path / 'one'} [" in done.stdout
    if not options:
        python.with_name("run").symlink_to(python)
        assert_same("-c", PROGRAM, python=python.with_name("run"))
        assert_same("-c", PROGRAM, python="python", variables={"PATH": f"{python.parent}:{os.environ['PATH']}"})


# ---- in process -------------------------------------------------------------------------------------------------


@needs_domains
def test_in_process() -> None:
    program = f"{TELL}import os, slabmalloc\nprint(sorted(slabmalloc.stats().domains), 'LD_PRELOAD' in os.environ)"
    done = start("-c", program, value="in-process")
    assert (done.returncode, done.stdout, done.stderr) == (0, "in process\n['mem', 'obj', 'raw'] False\n", "")


@needs_domains
def test_in_process_where_tracemalloc_runs_from_the_start() -> None:
    program = (
        f"{TELL}kept = [bytes(100) for _ in range(1000)]\nimport tracemalloc\nprint(tracemalloc.get_traced_memory()[0])"
    )
    done = start("-X", "tracemalloc", "-c", program, value="in-process")
    assert done.stderr == ""
    form, traced = done.stdout.split("\n", 1)
    assert form == "in process"
    assert int(traced) > 100_000


# ---- options and the summary ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["preload", IN_PROCESS])
@needs_domains
def test_options_come_from_their_variables(value: str) -> None:
    program = "import slabmalloc\ns = slabmalloc.stats()\nprint(s.reserved_bytes >> 20, sorted(s.domains))"
    options = {"SLABMALLOC_RESERVE": str(256 << 20), "SLABMALLOC_DOMAINS": "obj"}
    domains = "['malloc', 'obj']" if value == "preload" else "['obj']"
    assert start("-c", program, value=value, variables=options).stdout == f"256 {domains}\n"
    none = start("-c", program, value=value, variables={"SLABMALLOC_DOMAINS": "none"})
    assert none.stdout.partition(" ")[2] == ("['malloc']\n" if value == "preload" else "[]\n")
    reason = (
        "SLABMALLOC=in-process has no effect: SLABMALLOC_DOMAINS='none' leaves nothing to serve in process; name some "
        "of obj, mem, raw, numpy"
    )
    assert none.stderr == ("" if value == "preload" else f"slabmalloc: {reason}\n")


def test_switches_that_are_plainly_off(tmp_path: Path) -> None:
    variables = {"SLABMALLOC_SUMMARY": "here", "SLABMALLOC_SUMMARY_JSON": "0", "SLABMALLOC_NO_CHILDREN": "0"}
    child = f"import subprocess, sys\nprint(subprocess.check_output([sys.executable, '-c', {TELL!r}]))"
    for value, form in (("preload", "preload"), *([] if IS_FREE_THREADED else [("in-process", "in process")])):
        done = start("-c", child, value=value, cwd=tmp_path, variables=variables)
        assert (done.stdout, done.stderr) == (f"b'{form}\\n'\n", "")
        assert (tmp_path / "here").read_text().startswith("slabmalloc: ")


@pytest.mark.parametrize("value", ["preload", IN_PROCESS])
def test_the_summary_is_written_where_asked_for_by_the_first_process(value: str, tmp_path: Path) -> None:
    child = "import os, sys; sys.exit('SLABMALLOC_SUMMARY' in os.environ)"
    program = (
        f"import os, subprocess, sys\nos.chdir('/')\nsubprocess.run([sys.executable, '-c', {child!r}], check=True)"
    )
    wanted = {"SLABMALLOC_SUMMARY": "here.json", "SLABMALLOC_SUMMARY_JSON": "1"}
    done = start("-c", program, value=value, cwd=tmp_path, variables=wanted)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads((tmp_path / "here.json").read_text())["form"] == value.replace("-", " ")
    assert start("-c", program, value=value).stderr == ""
    errors = start("-c", program, value=value, variables={"SLABMALLOC_SUMMARY": "-"}).stderr
    assert [line.startswith("slabmalloc: ") for line in errors.splitlines()].count(True) == 1


# ---- children and other interpreters ----------------------------------------------------------------------------

POOL = f"""
import multiprocessing, os, sys
{SERVED}
def work(_):
    return served(), os.environ.get("SLABMALLOC")

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(work(0)[0], *sorted(set(pool.map(work, range(8)))))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("value", ["preload", IN_PROCESS])
@pytest.mark.parametrize("children", ["served", "on stock"])
def test_multiprocessing(method: str, value: str, children: str, tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    form = value.replace("-", " ")
    expected: tuple[str, str | None] = (form, value)
    variables = {}
    if children == "on stock":
        variables["SLABMALLOC_NO_CHILDREN"] = "1"
        expected = (form if method == "fork" else "stock", None)  # a forked child has what its parent has
    done = start("pool.py", method, value=value, cwd=tmp_path, variables=variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{form} {expected}\n", "")


def test_children_of_slabmalloc_run_without_children() -> None:
    child = f"import subprocess, sys{TELL}print(subprocess.check_output([sys.executable, '-c', {TELL!r}]))"
    done = start(*RUN, "--no-children", "-c", child)
    assert (done.stdout, done.stderr) == ("preload\nb'stock\\n'\n", "")


@pytest.mark.parametrize("value", ["preload", IN_PROCESS])
def test_sub_interpreters_have_what_the_main_one_has(value: str) -> None:
    program = f"""{TELL}
import sys
sys.stdout.flush()
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
run_in = getattr(interpreters, "exec", None) or interpreters.run_string
for _ in range(3):
    one = interpreters.create()
    code = "import slabmalloc.process.start_file as s; assert s.outcome is None; print('one', flush=True)"
    assert run_in(one, code) is None
    interpreters.destroy(one)
"""
    done = start("-W", "ignore", "-c", program, value=value)
    assert (done.returncode, done.stdout, done.stderr) == (0, value.replace("-", " ") + "\n" + "one\n" * 3, "")
