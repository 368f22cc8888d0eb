# SPDX-License-Identifier: MIT
"""``slabmalloc run`` beside ``python``: the same program, the same output, the same end.

Each comparison runs a program in fresh processes, with the same interpreter, on stock and in both forms of a run, and
compares standard output, standard error (the summary is silenced) and exit status.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from typing import TYPE_CHECKING

import pytest

from forms import IS_FREE_THREADED, needs_domains
from stop_line import stop_line

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("slabmalloc.process._pymem", reason="needs the native extension")

SLABMALLOC = [sys.executable, "-m", "slabmalloc"]
RUN = [*SLABMALLOC, "run"]
FORMS: dict[str, list[str]] = {"preload": RUN, "in process": [*RUN, "--in-process"]}
if IS_FREE_THREADED:
    RUN.append("--domains=raw")  # it could not have the others, and would say so
    del FORMS["in process"]

# How a program sees its place in the world.
PLACE = """
print(sorted(globals().items()))
import sys
print(sys.argv, repr(sys.path[0]), sys.modules["__main__"].__dict__ is globals())
class Pickled: pass
import pickle
print(type(pickle.loads(pickle.dumps(Pickled()))) is Pickled)
"""

ENDS = {
    "return": "print('well')",
    "exit": "import sys; sys.exit()",
    "exit_7": "import sys; sys.exit(7)",
    "exit_true": "raise SystemExit(True)",
    "exit_text": "raise SystemExit('that was it')",
    "exit_object": "raise SystemExit(['a', 'list'])",
    "exit_big": "import sys; sys.exit(2**40 + 3)",
    "exit_in_atexit": "import atexit, sys\natexit.register(sys.exit, 9)",
    "exit_now": "import os; os._exit(5)",
    "error": "def f():\n    raise ValueError('no')\nf()",
    "chained": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError('k') from error",
    "group": "raise ExceptionGroup('some', [ValueError(1), TypeError(2)])",
    "interrupt": "raise KeyboardInterrupt",
    "syntax": "def f(:\n    pass",
    "hook": "import sys\nsys.excepthook = lambda kind, error, trace: print(trace.tb_lineno, trace.tb_next)\n1 / 0",
    "bad_hook": "import sys\nsys.excepthook = 5\n1 / 0",
    "failing_hook": "import sys\ndef hook(*_): return {}['x']\nsys.excepthook = hook\n1 / 0",
    "exiting_hook": "import sys\nsys.excepthook = lambda *_: sys.exit(8)\n1 / 0",
    "thread": "import threading\nthreading.Timer(0.3, print, ['late']).start()\nprint('early')",
    "thread_error": "import threading\nthread = threading.Thread(target=lambda: 1 / 0)\nthread.start()\nthread.join()",
    "unraisable": "class D:\n    def __del__(self): 1 / 0\nd = D()\nd = None",
    "abort": "import os, resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\nos.abort()",
    "terminated": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)",
    "last_error": "import atexit, sys\natexit.register(lambda: print(sys.last_traceback.tb_lineno))\n1 / 0",
}


def run(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **settings)  # type: ignore[call-overload, no-any-return]


def assert_same(
    arguments: list[str], options: tuple[str, ...] = (), **settings: object
) -> subprocess.CompletedProcess[str]:
    """Runs `arguments` as python's and as slabmalloc's, in both forms; returns the latter's outcome."""
    stock = run([sys.executable, *options, *arguments], **settings)
    for form in FORMS.values():
        ours = run([sys.executable, *options, *form[1:], "--quiet", *arguments], **settings)
        assert _plain(ours.stdout) == _plain(stock.stdout)
        assert _plain(ours.stderr) == _plain(stock.stderr)
        assert ours.returncode == stock.returncode
    return ours


def _plain(text: str) -> str:
    """Addresses differ from process to process."""
    return re.sub("0x[0-9a-f]+", "0x", text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the same program as script, module, package, folder and archive."""
    (tmp_path / "place.py").write_text(PLACE)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "__main__.py").write_text(PLACE)
    (tmp_path / "package" / "part.py").write_text("from . import __main__")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", PLACE)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "other.py").symlink_to(tmp_path / "place.py")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["place.py"],
        ["place.py", "-m", "--quiet", "--", "-c", ""],
        ["./place.py", "x"],
        ["package/../place.py"],
        ["linked/other.py"],
        ["package", "x"],
        ["archive.zip", "-x"],
        ["-m", "place", "-m", "--json", "x"],
        ["-m", "package"],
        ["-m", "package.part"],
        ["-m", "missing"],
        ["-m", "package.missing"],
        ["-c", PLACE, "-c", "--quiet"],
        ["-", "x"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("options", [(), ("-P",), ("-I",)], ids=lambda options: "".join(options) or "plain")
def test_a_program_finds_itself_where_python_puts_it(
    arguments: list[str], options: tuple[str, ...], folder: Path
) -> None:
    if options == ("-I",) and not _is_installed():
        pytest.skip("isolated, the interpreter finds slabmalloc only where it is installed")
    if arguments[0] == "-m" and options and _is_local(arguments[1]):
        pytest.skip("a module of the working directory is not found then, and the message names the interpreter alone")
    assert_same(arguments, options, cwd=folder, input=PLACE)


def _is_installed() -> bool:
    return run([sys.executable, "-I", "-c", "import slabmalloc.process._pymem"]).returncode == 0


def _is_local(module: str) -> bool:
    return module.startswith(("place", "package"))


BRIEF = ["exit_7", "exit_text", "error", "interrupt", "syntax", "thread_error"]


@pytest.mark.parametrize(
    ("way", "end"),
    [
        *(("script", end) for end in ENDS),
        *(("module", end) for end in ENDS),
        *((way, end) for way in ("command", "stdin") for end in BRIEF),
    ],
)
def test_a_program_ends_as_under_python(way: str, end: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(ENDS[end])
    arguments = {"script": [str(program)], "module": ["-m", "program"], "command": ["-c", ENDS[end]], "stdin": ["-"]}[
        way
    ]
    assert_same(arguments, cwd=tmp_path, input=ENDS[end])


def test_tracebacks_have_no_frame_of_ours(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text("def inner():\n    raise ValueError('no')\n\ninner()\n")
    ours = assert_same(["fails.py"], cwd=tmp_path)
    assert "slabmalloc" not in ours.stderr
    assert ours.stderr.count("File ") == 2
    assert "slabmalloc" not in assert_same(["-m", "fails"], cwd=tmp_path).stderr


def test_a_compiled_script(tmp_path: Path) -> None:
    import py_compile

    (tmp_path / "one.py").write_text("import sys; print(sys.argv, __file__, __loader__.__class__.__name__)")
    compiled = py_compile.compile(str(tmp_path / "one.py"), cfile=str(tmp_path / "one.pyc"))
    assert compiled is not None
    assert_same(["one.pyc", "x"], cwd=tmp_path)


def test_future_imports_are_the_programs_own() -> None:
    done = assert_same(["-c", "def f(x: undefined_name): pass" if sys.version_info < (3, 14) else "pass"])
    assert (done.returncode != 0) == (sys.version_info < (3, 14))


def test_encodings_of_source(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes("# coding: latin-1\nprint(ascii('é'))".encode("latin-1"))
    assert_same([str(tmp_path / "latin.py")])


def test_the_c_locale_is_not_taken_for_the_users() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    program = "import os, sys; print(sys.flags.utf8_mode, os.environ.get('LC_CTYPE'), sys.stdin.errors)"
    assert_same(["-c", program], env={**environment, "LANG": "C"})


@pytest.mark.parametrize("number", [1, 2])
def test_streams_that_are_closed(number: int) -> None:
    program = "import sys; print(sys.stdout is None, sys.stderr is None, file=sys.stdout or sys.stderr)"
    done = assert_same(["-c", program], preexec_fn=lambda: os.close(number))
    assert "True" in done.stdout + done.stderr


def test_standard_input_is_the_programs() -> None:
    done = assert_same(["-c", "import sys; print(sum(map(int, sys.stdin)))"], input="1\n2\n3\n")
    assert done.stdout == "6\n"


def test_inspection_after_the_end() -> None:
    assert_same(["-c", "x = 3; 1 / 0"], ("-i", "-q"), input="print(x)\n")


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
        (["--domains=obj,malloc", "-c", ""], "'malloc' is not a domain that can be installed"),
        (["--no-such-option", "x.py"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = run([*RUN, *arguments], input="")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_multiprocessing_finds_the_program(tmp_path: Path) -> None:
    program = tmp_path / "pool.py"
    program.write_text(
        "import multiprocessing, sys\n"
        "def square(x): return x * x\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:\n"
        "        print(pool.map(square, range(5)))\n"
    )
    for method in ("fork", "spawn", "forkserver"):
        assert assert_same([str(program), method]).stdout == "[0, 1, 4, 9, 16]\n"


@pytest.mark.parametrize("form", FORMS)
def test_an_interrupt_from_outside_ends_it_as_python_ends(form: str) -> None:
    with subprocess.Popen(
        [*FORMS[form], "-c", "print('on', flush=True)\nimport time\ntime.sleep(60)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "on\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert ("slabmalloc: " in errors) == (form == "in process")  # python ends by the signal, and that is all
    assert "cli" not in errors


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
    for word in ("served MiB", "passed MiB", "freed blocks", "live blocks", "held MiB", "peak MiB", "given back"):
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
    assert float(by_size[1152][5]) >= 20  # what was there at its peak is told, though nothing is live at the end
    listed = [*rows, others]
    assert count(everything[1]) == sum(count(row[1]) for row in [*listed, large])
    assert count(everything[3]) == sum(count(row[3]) for row in listed) > 8
    assert count(everything[6]) == sum(count(row[6]) for row in listed) >= 500
    live, free, tail, resting, mapped = (count(word) for word in table(lines, "heap,")[0][1:])
    assert live + free + tail + resting == mapped > 0
    cache = next(line for line in lines if line.startswith("  cache "))
    assert re.fullmatch(
        r"  cache    resting [\d.]+ MiB, [\d.]+ MiB of it in large blocks; [1-9]\d* large blocks were .*", cache
    )


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
    assert table([f"  {line}" for line in tables], "class")[-1][6] == remote
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


def test_a_summary_that_can_not_be_written(tmp_path: Path) -> None:
    done = run([*RUN, f"--summary={tmp_path}/none/s.txt", "-c", "print(1)"])
    assert done.returncode == 0
    assert done.stdout == "1\n"
    assert done.stderr == f"slabmalloc: can't write the summary: {tmp_path}/none/s.txt: No such file or directory\n"
    name = "s" * 3000
    done = run([*RUN, f"--summary={tmp_path}/{name}", "-c", "print(1)"])
    assert done.stderr == f"slabmalloc: can't write the summary: {tmp_path}/{name}: File name too long\n"


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


def test_tracemalloc_from_the_start_sees_the_program() -> None:
    program = (
        "import tracemalloc\nkept = [bytes(100) for _ in range(1000)]\n"
        "print(tracemalloc.get_traced_memory()[0] > 100_000, tracemalloc.get_traceback_limit())"
    )
    done = run([sys.executable, "-X", "tracemalloc=5", "-m", "slabmalloc", "run", "--quiet", "-c", program])
    assert (done.stdout, done.returncode) == ("True 5\n", 0)


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


def test_without_the_extension_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['slabmalloc.process._pymem'] = None\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run([*RUN, "--in-process", "-c", "print('never')"], env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 2
    assert "needs slabmalloc's native extension" in done.stderr
    assert done.stdout == ""


SERVED = "from slabmalloc.process import _pymem; print(_pymem.form())"
STARTS_ANOTHER = f"import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {SERVED!r}]))"


def test_the_preloaded_library_serves_the_program_and_its_children() -> None:
    assert run([*RUN, "--quiet", "-c", SERVED]).stdout == "preload\n"
    assert run([*RUN, "--quiet", "-c", STARTS_ANOTHER]).stdout == "b'preload\\n'\n"
    assert run([*RUN, "--quiet", "--no-children", "-c", STARTS_ANOTHER]).stdout == "b'in process\\n'\n"


def test_other_preloads_are_kept_behind_ours() -> None:
    program = "import os; print(os.environ['LD_PRELOAD'].partition(':')[2])"
    libm = "libm.so.6"
    assert run([*RUN, "--quiet", "-c", program], env={**os.environ, "LD_PRELOAD": libm}).stdout == f"{libm}\n"
    program = "import os; print(os.environ.get('LD_PRELOAD'))"
    arguments = [*RUN, "--quiet", "--no-children", "-c", program]
    assert run(arguments, env={**os.environ, "LD_PRELOAD": libm}).stdout == f"{libm}\n"
    assert run(arguments).stdout == "None\n"


@pytest.mark.parametrize("switch", ["SLABMALLOC_HARDENED", "SLABMALLOC_HUGE_PAGES"])
def test_a_switch_is_on_unless_it_is_plainly_off(switch: str) -> None:
    attribute = {"SLABMALLOC_HARDENED": "hardened", "SLABMALLOC_HUGE_PAGES": "huge_pages"}[switch]
    program = f"import slabmalloc; print(slabmalloc.stats().{attribute})"

    def said(value: str) -> str:
        return run([*RUN, "--quiet", "-c", program], env={**os.environ, switch: value}).stdout.strip()

    off = {"False", "off"}
    assert {said("0"), said("")} <= off
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


def test_usage_that_is_wrong_tells_the_remedy() -> None:
    done = run([*RUN, "-X", "dev", "-c", "print(1)"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "options of the interpreter come before: python -X dev -m slabmalloc run" in done.stderr
    done = run([*RUN, "--decay=abc", "-c", "print(1)"])
    assert "argument --decay: abc is no number of seconds from 0 to 1,000,000\n" in done.stderr
    done = run([*RUN, "--cache=x", "-c", "print(1)"])
    assert "argument --cache: x is no number of MiB from 0 to 1,073,741,824\n" in done.stderr


def test_the_environment_of_the_program_is_its_own() -> None:
    program = "import os; print(sorted(name for name in os.environ if name.startswith('SLABMALLOC')))"
    assert run([*RUN, "-c", program]).stdout == "['SLABMALLOC_DOMAINS']\n"


@needs_domains
def test_everything_is_conserved_under_preload() -> None:
    program = """
import gc, slabmalloc, threading
from slabmalloc.process import _pymem
def work():
    kept = [bytes(n) for n in range(3000)] + [bytearray(200_000)]
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
gc.collect()
stats = slabmalloc.stats()
print(stats.conserved, _pymem.audit(), sorted(stats.domains), stats.large_objects < 3)
print(slabmalloc.trim() > 0, slabmalloc.stats().conserved)
"""
    assert run([*RUN, "--quiet", "-c", program]).stdout == "True None ['malloc', 'mem', 'obj', 'raw'] True\nTrue True\n"


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
    ],
)
def test_a_bad_option_names_its_value(option: str, message: str) -> None:
    done = run([*RUN, option, "-c", ""])
    assert done.returncode == 2
    assert message in done.stderr


def test_a_wrong_free_in_c_ends_the_process_with_one_line() -> None:
    program = (
        "import ctypes, resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\nc = ctypes.CDLL(None)\n"
        "c.malloc.restype = ctypes.c_void_p\nblock = ctypes.c_void_p(c.malloc(1 << 20))\n"
        "print(block.value, flush=True)\nc.free(block)\nc.free(block)\n"
    )
    done = run([*RUN, "-c", program])
    assert done.returncode == -signal.SIGABRT
    text = "double free of ADDRESS (malloc): a large block of 1048576 bytes is already free"
    assert done.stderr == stop_line(text, int(done.stdout))
