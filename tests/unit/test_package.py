# SPDX-License-Identifier: MIT
"""The package as a whole: its names and their docstrings, its two forms, and how it is imported without its extension.

What depends on the import runs in an interpreter of its own.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import slabmalloc
from forms import EXPECTED_WARNING, Memory, native
from slabmalloc import reference

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]

BOTH_FORMS = {
    "Layout": "from_size_align for_dtype size align",
    "Page": "address size buffer in_use",
    "ObjectPage": "SIZE",
    "LargeObjectPage": "SIZE",
    "page_type": "",
    "SizeClasses": "default powers_of_two geometric from_sizes fit index_of page_of waste max_size max_base_size",
    "SCAllocator": "objects_per_page refill allocate deallocate try_reclaim_pages stats audit close",
    "ZoneAllocator": "MAX_ALLOC_SIZE MAX_BASE_ALLOC_SIZE get_max_size refill refill_large allocate deallocate "
    "allocate_many deallocate_many try_reclaim_base_pages try_reclaim_large_pages reclaim "
    "restore buffer array stats audit close",
    "Buffer": "address release released",
    "AllocationError": "",
    "OutOfMemory": "",
    "InvalidLayout": "",
    "InvalidFree": "",
    "DoubleFree": "",
    "InvalidPage": "",
}
PACKAGE_ALONE = {
    "Pager": "allocate_page release_page",
    "MmapPager": "allocate_page release_page pages_in_use",
    "HugePagePager": "allocate_page release_page pages_in_use",
    "BufferPager": "allocate_page release_page pages_in_use",
    "FilePager": "allocate_page release_page pages_in_use retain_page retained_pages",
    "SharedMemoryPager": "allocate_page release_page pages_in_use",
    "LimitingPager": "allocate_page release_page pages_in_use",
    "StatisticsPager": "allocate_page release_page pages_in_use",
    "TrackingPager": "allocate_page release_page pages_in_use",
    "LoggingPager": "allocate_page release_page pages_in_use",
    "ObjectCache": "allocate deallocate reclaim close",
    "ZoneStats": "conserved classes bookkeeping_bytes",
    "ClassStats": "conserved occupancy",
    "install": "",
    "trim": "",
    "stats": "",
}
PLAIN = {"SIZE", "MAX_ALLOC_SIZE", "MAX_BASE_ALLOC_SIZE", "classes", "bookkeeping_bytes", "size", "align"}

BLOCKED = """
import sys, warnings
class NoExtension:
    def find_spec(self, name, path=None, target=None):
        if name == "slabmalloc._native":
            raise ImportError("no extension for this interpreter")
sys.meta_path.insert(0, NoExtension())
"""


# Without the extension an import warns, unless the pure form is asked for.
SILENTLY = {} if native is not None else {"SLABMALLOC_PURE": "1"}


def python(code: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `code` in a fresh interpreter that finds the same package."""
    path = os.pathsep.join([str(Path(slabmalloc.__file__).parents[1]), *filter(None, sys.path)])
    kept = {name: value for name, value in os.environ.items() if name != "SLABMALLOC_PURE"}
    return subprocess.run(
        [sys.executable, *options, "-W", EXPECTED_WARNING, "-c", code],
        env={**kept, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def output(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    return result.stdout.strip()


# ---- names and docstrings ----------------------------------------------------------------------------------------


def assert_documented(module: ModuleType, name: str, members: str) -> None:
    thing = getattr(module, name)
    assert inspect.getdoc(thing), f"{name} has no docstring"
    if inspect.isclass(thing):
        assert thing.__doc__, f"{name} has its docstring from {thing.__mro__[1].__name__} alone"
    for member in members.split():
        found = inspect.getattr_static(thing, member)
        assert member in PLAIN or inspect.getdoc(found), f"{name}.{member} has no docstring"


@pytest.mark.parametrize("name", BOTH_FORMS)
def test_names_of_both_forms(api: ModuleType, name: str) -> None:
    assert_documented(api, name, BOTH_FORMS[name])


@pytest.mark.parametrize("name", PACKAGE_ALONE)
def test_names_of_the_package(name: str) -> None:
    assert_documented(slabmalloc, name, PACKAGE_ALONE[name])


def test_errors_are_the_built_in_ones_too() -> None:
    assert issubclass(slabmalloc.OutOfMemory, MemoryError)
    for name in ("InvalidLayout", "InvalidFree", "InvalidPage"):
        assert issubclass(getattr(slabmalloc, name), (slabmalloc.AllocationError, ValueError))
        assert issubclass(getattr(slabmalloc, name), ValueError)
    assert issubclass(slabmalloc.DoubleFree, slabmalloc.InvalidFree)


def test_both_forms_share_pages_and_errors() -> None:
    for name in ("Page", "ObjectPage", "LargeObjectPage", "page_type", "SizeClasses", "DoubleFree", "OutOfMemory"):
        assert getattr(slabmalloc, name) is getattr(reference, name)


def test_a_star_import_brings_the_names_alone() -> None:
    names = output(python("from slabmalloc import *\nprint(*sorted(set(globals())))", **SILENTLY)).split()
    public = [name for name in names if not name.startswith("_")]
    assert set(public) - {"FORM"} == set(BOTH_FORMS) | set(PACKAGE_ALONE)


def test_the_version() -> None:
    assert slabmalloc.__version__.split(".")[0].isdigit()
    try:
        installed = metadata.version("slabmalloc")
    except metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    assert slabmalloc.__version__ == installed


# ---- forms -------------------------------------------------------------------------------------------------------


def test_the_native_form_is_served_silently() -> None:
    if native is None:
        pytest.skip("the extension can't be loaded here")
    code = "import slabmalloc; print(slabmalloc.FORM, slabmalloc.ZoneAllocator.__module__)"
    assert output(python(code, "-W", "always")) == "native slabmalloc.zone"


def test_without_the_extension_it_warns_once() -> None:
    code = (
        BLOCKED
        + """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import slabmalloc
    import slabmalloc.pagers
    from slabmalloc import MmapPager, ObjectCache
    import slabmalloc
    layout = slabmalloc.Layout.from_size_align(64, 8)
    zone = slabmalloc.ZoneAllocator(MmapPager())
    zone.deallocate(zone.allocate(layout), layout)
print(len(caught), caught[0].category.__name__, slabmalloc.FORM, slabmalloc.ZoneAllocator.__module__)
print(caught[0].message)
print(caught[0].filename)
"""
    )
    summary, message, place = output(python(code)).splitlines()
    assert summary == "1 RuntimeWarning pure slabmalloc.reference"
    assert "plain Python" in message
    assert "no extension for this interpreter" in message, "the reason"
    assert place == "<string>", "it points at the import"


def test_asked_for_the_pure_form_is_served_silently() -> None:
    code = "import slabmalloc; print(slabmalloc.FORM, slabmalloc.Layout.__module__, slabmalloc.Buffer.__module__)"
    assert output(python(code, "-W", "always", SLABMALLOC_PURE="1")) == "pure slabmalloc.reference slabmalloc.reference"


@pytest.mark.parametrize("value", ["", "0"])
def test_not_asked_for(value: str) -> None:
    if native is None:
        pytest.skip("the extension can't be loaded here")
    code = "import slabmalloc; print(slabmalloc.FORM)"
    assert output(python(code, SLABMALLOC_PURE=value)) == "native"


README = f"""
import doctest
failed, tried = doctest.testfile({str(ROOT / "README.md")!r}, module_relative=False)
assert tried > 10
raise SystemExit(failed)
"""


@pytest.mark.parametrize("form", ["native", "pure", "blocked"])
def test_the_examples_of_the_readme(form: str) -> None:
    if form == "native" and native is None:
        pytest.skip("the extension can't be loaded here")
    if form != "native" and sys.version_info < (3, 12):
        pytest.skip("plain classes export buffers from Python 3.12 on, as the README says")
    code, environment = README, {}
    if form == "pure":
        environment["SLABMALLOC_PURE"] = "1"
    if form == "blocked":
        code = BLOCKED + "warnings.simplefilter('ignore')\n" + README
    result = python(code, **environment)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_import_is_light() -> None:
    code = "import sys, slabmalloc; print(*sorted({'numpy', 'multiprocessing', 'asyncio'} & set(sys.modules)))"
    assert output(python(code, **SILENTLY)) == ""


# ---- repr --------------------------------------------------------------------------------------------------------


def test_reprs_are_worth_reading(api: ModuleType, memory: Memory) -> None:
    zone = api.ZoneAllocator(memory)
    assert repr(zone) == "<ZoneAllocator with 0 objects on 0 pages, 0 B>"
    layout = api.Layout.from_size_align(64, 8)
    objects = [zone.allocate(layout) for _ in range(64)]
    assert repr(zone) == "<ZoneAllocator with 64 objects on 2 pages, 8 KiB>"
    zone.deallocate_many(objects, layout)
    zone.close()
    assert repr(zone) == "<ZoneAllocator, closed>"
    assert repr(api.SCAllocator(64, pager=memory)) == "<SCAllocator with 0 objects on 0 pages, 0 B>"


@pytest.mark.parametrize("make", [
    lambda: slabmalloc.MmapPager(),
    lambda: slabmalloc.BufferPager(bytearray(1 << 16)),
    lambda: slabmalloc.LimitingPager(slabmalloc.MmapPager(), 1 << 20),
    lambda: slabmalloc.StatisticsPager(slabmalloc.MmapPager()),
    lambda: slabmalloc.TrackingPager(slabmalloc.MmapPager()),
    lambda: slabmalloc.LoggingPager(slabmalloc.MmapPager()),
    lambda: slabmalloc.SizeClasses.default(),
    lambda: slabmalloc.ZoneAllocator().stats(),
    lambda: slabmalloc.stats(),
])  # fmt: skip
def test_no_repr_is_a_bare_address(make: Any) -> None:
    thing = make()
    text = repr(thing)
    assert type(thing).__name__ in text
    assert " object at 0x" not in text
    assert len(text) < 1000
