# SPDX-License-Identifier: MIT
"""Options and variables of the command line: what they do, what is refused and why, and what the help says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from commands import FORMS, RUN, SLABMALLOC, run

from forms import IS_FREE_THREADED, needs_domains

READ = {".c", ".h", ".py", ".pyx", ".pth"}  # where variables of the environment are
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.mark.parametrize("form", FORMS)
def test_a_script_that_can_not_be_read(form: str, tmp_path: Path) -> None:
    done = run([*FORMS[form], "--quiet", "missing.py"], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.endswith(f"can't open file '{tmp_path}/missing.py': [Errno 2] No such file or directory\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "what shall be run?"),
        (["--quiet"], "what shall be run?"),
        (
            ["--domains=obj,malloc", "-c", ""],
            "--domains='obj,malloc': 'malloc' is not a domain that can be served so; name some of obj, mem, raw, or",
        ),
        (["--domains=none,obj", "-c", ""], "'none,obj' names domains and none as well; name some of obj, mem, raw, or"),
        (["--domains=numpy", "-c", ""], "--domains='numpy': under preload 'numpy' is served by malloc, always; name"),
        (["--domains=OBJ", "--in-process", "-c", ""], "'OBJ' is not a domain that can be served so; name some of obj"),
        (
            ["--domains=none", "--in-process", "-c", ""],
            "--domains='none' leaves nothing to serve in process; name some",
        ),
        (["--summary=", "-c", ""], "'' names no file; - is standard error"),
        (["--no-such-option", "x.py"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = run([*RUN, *arguments], input="")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, ["usage: slabmalloc VERB"]),
        (["--help"], 0, ["usage: slabmalloc VERB", "run", "doctor"]),
        (["--version"], 0, ["slabmalloc "]),
        (["rum"], 2, ["'rum' is not a verb", "did you mean 'run'?", "there are: run, doctor"]),
        (
            ["run", "--help"],
            0,
            ["usage: slabmalloc run", "--summary", "--quiet", "--domains", "--huge-pages", "--classes"],
        ),
    ],
)
def test_the_command_itself(arguments: list[str], status: int, words: list[str]) -> None:
    done = run([*SLABMALLOC, *arguments])
    assert done.returncode == status
    for word in words:
        assert word in done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["doctor"], ["bench", "--help"], ["rum"]], ids=" ".join
)
def test_a_reader_that_has_gone_ends_it_quietly(arguments: list[str]) -> None:
    stream = "stderr" if arguments == ["rum"] else "stdout"
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        process = subprocess.Popen(
            [*SLABMALLOC, *arguments], env=BUFFERED, **{"stderr": subprocess.PIPE, stream: write_end}
        )
    finally:
        os.close(write_end)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors or b"") == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["doctor"]], ids=" ".join)
def test_a_full_disk_is_said_in_a_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*SLABMALLOC, *arguments], env=BUFFERED, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"slabmalloc: can't write: No space left on device\n")


def test_help_has_each_variable_with_its_default() -> None:
    root = Path(__file__).parent.parent.parent
    sources = [path for folder in ("bindings", "src") for path in (root / folder).rglob("*") if path.suffix in READ]
    if not sources:
        pytest.skip("the sources are not here")
    found = {name for path in sources for name in re.findall(r'"(SLABMALLOC(?:_[A-Z]+)*)"', path.read_text())}
    found -= {"SLABMALLOC_RUN_PID"}  # from us to ourselves
    assert {"SLABMALLOC", "SLABMALLOC_BACKTRACE", "SLABMALLOC_DECAY_MS", "SLABMALLOC_PURE"} <= found
    helped = run([*SLABMALLOC, "run", "--help"]).stdout
    variables = helped.partition("environment variables")[2]
    assert {*re.findall(r"^  (SLABMALLOC\S*) +\S.*\(default: .+\)$", variables, re.MULTILINE)} == found
    told = (root / "docs" / "process.md").read_text()
    assert [name for name in sorted(found) if f"`{name}`" not in told] == []
    options = {*re.findall(r"^  (--[a-z-]+)", helped, re.MULTILINE)}
    assert [option for option in sorted(options) if f"`{option}" not in told] == []
    descriptions = re.split(r"^  (?=-)", helped.partition("\noptions:")[2].partition("\n\n")[0], flags=re.MULTILINE)
    without = [text.split()[0] for text in descriptions[1:] if "(default: " not in text]
    assert without == ["-h,", "-m", "-c"]


def test_without_the_extension_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['slabmalloc.process._pymem'] = None\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run([*RUN, "--in-process", "-c", "print('never')"], env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 2
    assert "needs slabmalloc's native extension" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("switch", ["SLABMALLOC_HARDENED", "SLABMALLOC_HUGE_PAGES"])
def test_a_switch_is_on_unless_it_is_plainly_off(switch: str) -> None:
    attribute = {"SLABMALLOC_HARDENED": "hardened", "SLABMALLOC_HUGE_PAGES": "huge_pages"}[switch]
    program = f"import slabmalloc; print(slabmalloc.stats().{attribute})"

    def said(value: str) -> str:
        return run([*RUN, "--quiet", "-c", program], env={**os.environ, switch: value}).stdout.strip()

    off = {"False", "off"}
    assert {said("0"), said(""), said("no"), said("False"), said("OFF")} <= off
    assert off.isdisjoint({said("1"), said("yes"), said("on")})


@pytest.mark.parametrize("value", ["abc", "-1", "1s", "0x10"])
def test_a_number_that_is_none_is_not_used_and_that_is_said(value: str) -> None:
    done = run([*RUN, "--quiet", "-c", "print(1)"], env={**os.environ, "SLABMALLOC_DECAY_MS": value})
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert done.stderr == f"slabmalloc: SLABMALLOC_DECAY_MS is not used: '{value}' is not a number from 0 on\n"


@pytest.mark.skipif(IS_FREE_THREADED, reason="has one domain alone")
def test_domains_by_the_variable_unless_an_option_names_them() -> None:
    program = "import slabmalloc; print(sorted(slabmalloc.stats().domains))"
    environment = {**os.environ, "SLABMALLOC_DOMAINS": "raw"}
    assert run([*RUN, "--quiet", "-c", program], env=environment).stdout == "['malloc', 'raw']\n"
    assert run([*RUN, "--quiet", "--domains=mem", "-c", program], env=environment).stdout == "['malloc', 'mem']\n"
    done = run([*RUN, "--quiet", "--in-process", "-c", program], env=environment)
    assert (done.stdout, done.stderr) == ("['raw']\n", "")


def test_malloc_alone_is_served_where_that_is_asked_for() -> None:
    program = "import slabmalloc; print(sorted(slabmalloc.stats().domains))"
    assert run([*RUN, "--domains=none", "--quiet", "-c", program]).stdout == "['malloc']\n"
    environment = {**os.environ, "SLABMALLOC_DOMAINS": "none"}
    assert run([*SLABMALLOC, "run", "--quiet", "-c", program], env=environment).stdout == "['malloc']\n"
    done = run([*SLABMALLOC, "run", "--in-process", "-c", program], env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert "SLABMALLOC_DOMAINS='none' leaves nothing to serve in process" in done.stderr


def test_a_reserve_of_nothing_is_not_used_and_that_is_said() -> None:
    done = run([*RUN, "--quiet", "-c", ""], env={**os.environ, "SLABMALLOC_RESERVE": "0"})
    assert done.stderr == "slabmalloc: SLABMALLOC_RESERVE is not used: '0' is not a number from 1 on\n"


def test_a_reserve_is_four_mebibytes_or_more() -> None:
    """Each further range is as large as all before it, so that all together are the first times a power of two."""
    program = "import slabmalloc; print(slabmalloc.stats().reserved_bytes >> 20)"

    def reserved(mebibytes: int) -> int:
        variables = {**os.environ, "SLABMALLOC_RESERVE": str(mebibytes << 20)}
        return int(run([*RUN, "--quiet", "-c", program], env=variables).stdout)

    assert reserved(5) % 5 == 0
    assert reserved(3) % 3 != 0


def test_usage_that_is_wrong_tells_the_remedy() -> None:
    done = run([*RUN, "--quite", "-c", "print(1)"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "unrecognized arguments: --quite" in done.stderr
    done = run([*RUN, "--decay=abc", "-c", "print(1)"])
    assert "argument --decay: abc is no number of seconds from 0 to 1,000,000\n" in done.stderr
    done = run([*RUN, "--cache=x", "-c", "print(1)"])
    assert "argument --cache: x is no number of MiB from 0 to 1,073,741,824\n" in done.stderr


@needs_domains
def test_options_reach_the_library() -> None:
    program = "import slabmalloc; print(slabmalloc.stats().reserved_bytes >> 20)"
    assert run([*RUN, "--quiet", "--reserve=256", "-c", program]).stdout == "256\n"
    assert run([*RUN, "--quiet", "--in-process", "--reserve=128", "-c", f"{program}"]).stdout == "128\n"
    # All that is needed later is there before the block goes: fresh memory is paid for with what rests.
    program = (
        "import slabmalloc; slabmalloc.stats(); slabmalloc.stats()\n"
        "block = bytearray(1 << 20); del block; print(slabmalloc.stats().resting_bytes)"
    )
    assert run([*RUN, "--quiet", "--decay=0", "-c", program]).stdout == "0\n"
    assert int(run([*RUN, "--quiet", "--decay=100", "-c", program]).stdout) >= 1 << 20


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--decay=-1", "-1 is no number of seconds"),
        ("--decay=soon", "soon is no number of seconds"),
        ("--cache=1e99", "1e99 is no number of MiB"),
        ("--classes=16,24", "'24' is not a multiple of 16"),
        ("--reserve=0", "0 is no number of MiB from 4 to 1,073,741,824"),
        ("--reserve=3.9", "3.9 is no number of MiB from 4 to 1,073,741,824"),
    ],
)
def test_a_bad_option_names_its_value(option: str, message: str) -> None:
    done = run([*RUN, option, "-c", ""])
    assert done.returncode == 2
    assert message in done.stderr
