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

_LIST_CPYTHON = """
import json, pathlib, test
print(json.dumps(sorted({p.stem for p in pathlib.Path(test.__path__[0]).glob("test_*")
                         if p.suffix == ".py" or (p / "__init__.py").exists()})))
"""
PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
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
}


@dataclass(frozen=True)
class Suite:
    """The modules of a suite, by what they are called in the tables; ``command`` follows the interpreter's name."""

    version: str
    modules: dict[str, list[str]]
    folder: Path | None = None  # to be in; else an empty one for each run


def cpython(python: Path) -> Suite:
    def ask(code: str) -> str:
        return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout

    names = json.loads(ask(_LIST_CPYTHON))
    first = [name for name in CPYTHON_FIRST if name in names]
    ordered = first + [name for name in names if name not in first]
    version = ask("import platform; print(platform.python_version())").strip()
    return Suite(f"CPython {version}", {name: ["-m", "test", "-v", name] for name in ordered})


def package(python: Path, name: str, folder: Path) -> Suite:
    """Of a package that ``python`` shall have; what is missing is installed. ``folder`` takes a source distribution."""
    entry = PACKAGES[name]
    subprocess.run([python, *PIP, "install", "--prefer-binary", "pytest", name, *entry.needs], check=True)
    code = (
        f"import importlib.metadata as m, json, sysconfig; d = m.distribution({name!r})\n"
        "print(json.dumps([d.version, sysconfig.get_path('platlib'), d.metadata['Name']]))"
    )
    answer = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
    version, site, title = json.loads(answer)
    root = Path(site) if entry.in_wheel else _source(python, entry, f"{name}=={version}", folder)
    if entry.into:
        shutil.copytree(root / entry.tests, Path(site) / entry.into, dirs_exist_ok=True)
        root = Path(site)
    tests = root / (entry.into or entry.tests)
    files = sorted(tests.rglob("test_*.py"))
    # Without a configuration of its own pytest would take that of whatever project the environment lies in.
    own = [] if not (entry.in_wheel or entry.into) else ["-c", str(_no_configuration(folder)), "--rootdir", str(root)]
    modules: dict[str, list[str]] = {}
    for file in files:
        base = [*PYTEST, *own, *(["-m", entry.marks] if entry.marks else [])]
        modules.setdefault(str(file.parent.relative_to(root)), base).append(str(file))
    return Suite(f"{title} {version}", modules, None if entry.in_wheel or entry.into else root)


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
