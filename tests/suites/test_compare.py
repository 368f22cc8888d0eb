# SPDX-License-Identifier: MIT
"""How a suite falls into modules and in which order they run, and what a time that is up leaves of a comparison."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest
from catalogue import LONGEST, PART_BYTES, belongs, longest_first, parts
from compare import compare_module

if TYPE_CHECKING:
    from pathlib import Path

TWO_TESTS = ["-c", "print('Ran 2 tests in 0.1s'); print(); print('OK')"]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("test_io", "test_io"),
        ("test.test_asyncio.test_locks", "test_asyncio"),
        ("test.test_asyncio.test_locks", "test_asyncio.test_locks"),
        ("test.test_asyncio.test_locks", "test.test_asyncio.test_locks"),
        ("numpy/ma/tests:2", "numpy/ma/tests"),
        ("numpy/ma/tests:2", "numpy/ma/tests:2"),
    ],
)
def test_a_part_belongs_to_its_module(module: str, name: str) -> None:
    assert belongs(module, name)


@pytest.mark.parametrize(
    ("module", "name"),
    [("test_iobase", "test_io"), ("numpy/ma/tests:12", "numpy/ma/tests:1"), ("numpy/ma/tests", "numpy/ma")],
)
def test_another_module_does_not(module: str, name: str) -> None:
    assert not belongs(module, name)


def test_what_takes_longest_is_begun_first_and_the_rest_stays_in_order() -> None:
    slow = f"test.{LONGEST[0]}.test_processes"
    assert longest_first(["test_z", LONGEST[1], "test_a", slow]) == [slow, LONGEST[1], "test_z", "test_a"]


def test_a_large_folder_falls_into_parts_that_have_each_file_once(tmp_path: Path) -> None:
    sizes = {
        "few/test_a.py": 1,
        "few/test_b.py": 1,
        "many/test_a.py": PART_BYTES // 2,
        "many/test_b.py": PART_BYTES // 2,
    }
    sizes |= {"many/test_c.py": 3 * PART_BYTES, "many/test_d.py": 1, "many/helper.py": 1}
    for name, size in sizes.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"#" * size)
    found = {module: [file.name for file in files] for module, files in parts(tmp_path, tmp_path).items()}
    assert found == {
        "few": ["test_a.py", "test_b.py"],
        "many:1": ["test_a.py", "test_b.py"],
        "many:2": ["test_c.py"],
        "many:3": ["test_d.py"],
    }


@pytest.mark.parametrize("at_once", [False, True])
def test_sides_that_agree_are_run_once(tmp_path: Path, at_once: bool) -> None:
    pytest.importorskip("slabmalloc.process._pymem", reason="needs the native extension")
    entry = compare_module(sys.executable, TWO_TESTS, None, 60, tmp_path, at_once=at_once)
    assert entry is not None
    assert (entry["repeats"], entry["differences"], entry["unsteady"]) == (1, [], [])
    assert (entry["stock"]["run"], entry["slabmalloc"]["run"]) == (2, 2)
    assert entry["served_blocks"] > 0


def test_what_the_end_cuts_short_does_not_count(tmp_path: Path) -> None:
    end = time.monotonic() + 0.2
    assert compare_module(sys.executable, ["-c", "import time; time.sleep(60)"], None, 60, tmp_path, end=end) is None


def test_what_its_own_limit_cuts_short_counts(tmp_path: Path) -> None:
    entry = compare_module(sys.executable, ["-c", "import time; time.sleep(60)"], None, 0.2, tmp_path)
    assert entry is not None
    assert entry["stock"]["verdict"] == "time limit"
