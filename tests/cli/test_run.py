# SPDX-License-Identifier: MIT
"""``slabmalloc run`` beside ``python``: the same program, the same output, the same end.

Each comparison runs a program in fresh processes, with the same interpreter, on stock and in both forms of a run, and
compares standard output, standard error (the summary is silenced) and exit status.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from typing import TYPE_CHECKING

import pytest
from commands import FORMS, RUN, run

from forms import IS_FREE_THREADED, needs_domains
from stop_line import stop_line

if TYPE_CHECKING:
    from pathlib import Path

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
        ["-mplace", "-m", "--json", "x"],
        ["-m=place", "x"],
        ["-m", "package"],
        ["-m", "package.part"],
        ["-m", "missing"],
        ["-m", "package.missing"],
        ["-c", PLACE, "-c", "--quiet"],
        ["-cimport sys; print(sys.argv)", "-m", "--quiet"],
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


def test_what_is_behind_the_program_is_its_own_whatever_options_come_before(folder: Path) -> None:
    for words in (["-mplace", "-m", "package", "--json"], ["-m", "place", "-cx"], ["place.py", "-mx", "--decay", "1"]):
        stock = run([sys.executable, *words], cwd=folder).stdout
        assert _plain(run([*RUN, "--quiet", "--decay", "2", *words], cwd=folder).stdout) == _plain(stock)


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


def test_tracemalloc_from_the_start_sees_the_program() -> None:
    program = (
        "import tracemalloc\nkept = [bytes(100) for _ in range(1000)]\n"
        "print(tracemalloc.get_traced_memory()[0] > 100_000, tracemalloc.get_traceback_limit())"
    )
    done = run([sys.executable, "-X", "tracemalloc=5", "-m", "slabmalloc", "run", "--quiet", "-c", program])
    assert (done.stdout, done.returncode) == ("True 5\n", 0)


def test_a_broken_pipe_of_the_program_is_its_own() -> None:
    program = "import os, sys\nread, write = os.pipe()\nos.close(read)\nos.write(write, b'x')"
    assert "BrokenPipeError" in assert_same(["-c", program]).stderr


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


def test_the_environment_of_the_program_is_its_own() -> None:
    program = "import os; print(sorted(name for name in os.environ if name.startswith('SLABMALLOC')))"
    assert (
        run([*RUN, "-c", program]).stdout == f"{[option for option in ('SLABMALLOC_DOMAINS',) if IS_FREE_THREADED]}\n"
    )


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
