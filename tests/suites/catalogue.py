# SPDX-License-Identifier: MIT
"""The suites that nobody here wrote: what their modules are, in which order, and the command that runs one of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

# What allocates, starts threads or forks comes first: time may be short.
CPYTHON_FIRST = [
    "test_capi",
    "test_gc",
    "test_threading",
    "test_thread",
    "test_fork1",
    "test_os",
    "test_subprocess",
    "test_tracemalloc",
    "test_faulthandler",
    "test_embed",
    "test_interpreters",
    "test__xxsubinterpreters",
    "test__interpreters",
    "test_mmap",
    "test_ctypes",
    "test_io",
    "test_list",
    "test_dict",
    "test_set",
    "test_unicode",
    "test_str",
    "test_bytes",
    "test_array",
    "test_bytearray",
    "test_memoryview",
    "test_buffer",
    "test_pickle",
    "test_json",
    "test_sqlite3",
    "test_concurrent_futures",
    "test_multiprocessing_fork",
    "test_multiprocessing_forkserver",
    "test_multiprocessing_spawn",
    "test_asyncio",
    "test_ssl",
    "test_signal",
    "test_threadsignals",
    "test_threading_local",
    "test_queue",
    "test_posix",
    "test_weakref",
    "test_descr",
    "test_cmd_line",
    "test_sys",
    "test_resource",
    "test_malloc",
    "test_exceptions",
    "test_long",
    "test_deque",
    "test_collections",
    "test_ordered_dict",
    "test_re",
    "test_decimal",
    "test_zlib",
    "test_bz2",
    "test_lzma",
    "test_hashlib",
    "test_socket",
    "test_select",
    "test_import",
    "test_importlib",
    "test_marshal",
    "test_ast",
    "test_compile",
    "test_datetime",
    "test_itertools",
    "test_struct",
    "test_xml_etree",
    "test_xml_etree_c",
    "test_pyexpat",
    "test_context",
    "test_coroutines",
    "test_generators",
    "test_finalization",
    "test_atexit",
    "test_site",
    "test_venv",
    "test_shelve",
    "test_dbm",
    "test_csv",
    "test_functools",
]

# What says little about an allocator for the time that it takes, or needs what is rarely there, comes last.
CPYTHON_LAST = [
    "test_gdb",
    "test_tkinter",
    "test_ttk",
    "test_idle",
    "test_lib2to3",
    "test_peg_generator",
    "test_clinic",
    "test_tools",
]

# Where several run at a time what takes longest is begun first, lest all wait for it in the end. Minutes to seconds.
LONGEST = [
    "test_multiprocessing_spawn",
    "test_multiprocessing_forkserver",
    "test_multiprocessing_fork",
    "test_concurrent_futures",
    "test_socket",
    "test_ssl",
    "test_regrtest",
    "test_capi",
    "test_threading",
    "test_signal",
    "test_subprocess",
    "test_faulthandler",
    "test_os",
    "test_asyncio",
    "test_io",
    "test_zipfile",
    "test_venv",
    "test_datetime",
    "test_statistics",
    "test_pickle",
    "test_compileall",
    "test_importlib",
    "test_tarfile",
    "test_imaplib",
    "test_httpservers",
    "test_logging",
    "test_sqlite3",
    "test_ctypes",
    "test_exceptions",
    "test_interpreters",
    "test_decimal",
    "test_weakref",
    "test_compile",
    "test_ast",
    "test_queue",
    "test_embed",
    "test_cext",
    "test_cppext",
]

# Arguments that leave out of a module what no machine would get past.
CPYTHON_ARGUMENTS = {
    # Where the device of a virtual machine has nobody at its other end a connection waits for ever.
    "test_socket": ["--ignore", "*VSOCK*"],
}

# As regrtest itself lists them, which tells the files of some large packages apart; before 3.11.6 it was elsewhere.
_LIST_CPYTHON = """
import json
try:
    from test.libregrtest.findtests import findtests
except ImportError:
    from test.libregrtest.runtest import findtests
print(json.dumps(sorted(findtests())))
"""
PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
_LACKING = """
import importlib.metadata, sys
def lacks(name):
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return True
print(*filter(lacks, sys.argv[1:]))
"""
PART_BYTES = 200_000  # of test files in one module; about a minute of tests
PYTEST = ["-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider"]


@dataclass(frozen=True)
class Package:
    """Where a package has its tests: at ``tests`` in the wheel or in the source distribution. A folder is a module."""

    tests: str
    in_wheel: bool
    needs: list[str] = field(default_factory=list)
    marks: str = ""
    into: str = ""  # the place in site-packages to which tests of a source distribution have to be copied


PACKAGES = {
    "numpy": Package(
        "numpy", in_wheel=True, needs=["hypothesis", "typing_extensions", "meson", "ninja", "cython"], marks="not slow"
    ),
    "orjson": Package("test", in_wheel=False, needs=["numpy", "pytz", "python-dateutil", "psutil", "faker", "arrow"]),
    "lxml": Package("src/lxml/tests", in_wheel=False, into="lxml/tests"),
    "pillow": Package("Tests", in_wheel=False, needs=["numpy"]),
    "pandas": Package("pandas/tests", in_wheel=True, needs=["hypothesis", "pyarrow"], marks="not slow and not network"),
    "pyarrow": Package("pyarrow/tests", in_wheel=True, needs=["numpy", "pandas", "hypothesis", "cffi"]),
    "scipy": Package("scipy", in_wheel=True, needs=["hypothesis"], marks="not slow"),
    "scikit-learn": Package("sklearn", in_wheel=True),
    "statsmodels": Package("statsmodels", in_wheel=True, marks="not slow"),
    "h5py": Package("h5py/tests", in_wheel=True),
    "simplejson": Package("simplejson/tests", in_wheel=True),
    "regex": Package("regex/tests", in_wheel=True),
}


@dataclass(frozen=True)
class Suite:
    """The modules of a suite, by what they are called in the tables; ``command`` follows the interpreter's name."""

    version: str
    modules: dict[str, list[str]]
    folder: Path | None = None  # to be in; else an empty one for each run


def _ask(python: Path, code: str, *words: str) -> str:
    return subprocess.run([python, "-c", code, *words], check=True, capture_output=True, text=True).stdout.strip()


def belongs(module: str, name: str) -> bool:
    """Whether a module is what ``name`` says or a part of it: ``test.test_io.test_fileio``, ``numpy/ma/tests:2``."""
    module, name = module.removeprefix("test."), name.removeprefix("test.")
    return f"{module}.".startswith((f"{name}.", f"{name}:"))


def _place(module: str, names: list[str]) -> int:
    return next((place for place, name in enumerate(names) if belongs(module, name)), len(names))


def longest_first(modules: list[str]) -> list[str]:
    return sorted(modules, key=lambda module: _place(module, LONGEST))


def cpython(python: Path) -> Suite:
    names = json.loads(_ask(python, _LIST_CPYTHON))
    names.sort(key=lambda name: (_place(name, CPYTHON_LAST) < len(CPYTHON_LAST), _place(name, CPYTHON_FIRST)))
    version = _ask(python, "import platform; print(platform.python_version())")
    return Suite(
        f"CPython {version}", {name: ["-m", "test", "-v", *CPYTHON_ARGUMENTS.get(name, []), name] for name in names}
    )


def package(python: Path, name: str, folder: Path) -> Suite:
    """Of a package that ``python`` shall have; what is missing is installed. ``folder`` takes a source distribution."""
    entry = PACKAGES[name]
    lacking = _ask(python, _LACKING, "pytest", name, *entry.needs).split()
    if lacking:
        subprocess.run([python, *PIP, "install", "--prefer-binary", *lacking], check=True)
    code = (
        f"import importlib.metadata as m, json, sysconfig; d = m.distribution({name!r})\n"
        "print(json.dumps([d.version, sysconfig.get_path('platlib'), d.metadata['Name']]))"
    )
    version, site, title = json.loads(_ask(python, code))
    root = Path(site) if entry.in_wheel else _source(python, entry, f"{name}=={version}", folder)
    if entry.into:
        shutil.copytree(root / entry.tests, Path(site) / entry.into, dirs_exist_ok=True)
        root = Path(site)
    # Without a configuration of its own pytest would take that of whatever project the environment lies in.
    own = [] if not (entry.in_wheel or entry.into) else ["-c", str(_no_configuration(folder)), "--rootdir", str(root)]
    base = [*PYTEST, *own, *(["-m", entry.marks] if entry.marks else [])]
    modules = {
        module: base + [str(file) for file in files]
        for module, files in parts(root, root / (entry.into or entry.tests)).items()
    }
    return Suite(f"{title} {version}", modules, None if entry.in_wheel or entry.into else root)


def parts(root: Path, tests: Path) -> dict[str, list[Path]]:
    """The test files by folder, and those of a large one in numbered parts: ``FOLDER:1`` and so on."""
    folders: dict[str, list[Path]] = {}
    for file in sorted(tests.rglob("test_*.py")):
        folders.setdefault(str(file.parent.relative_to(root)), []).append(file)
    found: dict[str, list[Path]] = {}
    for folder, files in folders.items():
        cut: list[list[Path]] = []
        room = 0
        for file in files:
            size = file.stat().st_size
            if size > room:
                cut.append([])
                room = PART_BYTES
            cut[-1].append(file)
            room -= size
        found |= {folder: files} if len(cut) == 1 else {f"{folder}:{n}": part for n, part in enumerate(cut, 1)}
    return found


def _no_configuration(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pytest.ini"
    file.write_text("[pytest]\n")
    return file


def _source(python: Path, entry: Package, requirement: str, folder: Path) -> Path:
    """The source distribution of exactly what is installed, unpacked by pip.

    Pip goes on to ask for its meta-data, which may take a compiler that is not here. That may fail: nothing is built.
    """
    fetched = (folder / "fetched").absolute()
    if not fetched.exists():
        fetched.mkdir(parents=True)
        subprocess.run(
            [
                python,
                *PIP,
                "download",
                "--no-clean",
                "--no-deps",
                "--no-build-isolation",
                "--no-binary",
                ":all:",
                "--dest",
                str(fetched),
                requirement,
            ],
            env={**os.environ, "TMPDIR": str(fetched)},
            capture_output=True,
        )
    found = sorted(fetched.glob(f"*/*/{entry.tests}"))
    if not found:
        raise FileNotFoundError(f"no source distribution of {requirement} with tests in {entry.tests}")
    return Path(str(found[0]).removesuffix(f"/{entry.tests}"))
