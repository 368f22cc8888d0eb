# SPDX-License-Identifier: MIT
"""The files of CPython's own tests that say most about an allocator: what passes on stock passes on slabmalloc.

``compare.py`` beside this runs all of them, and other suites. A file that this interpreter has not (distributions leave
them out, releases rename them) is skipped.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

import pytest
from compare import compare_module

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("slabmalloc.process._pymem", reason="needs the native extension")

SECONDS = 1200
FILES = ["gc", "dict", "list", "set", "unicode", "str", "bytes", "memoryview", "capi", "threading", "json", "pickle"]


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_what_passes_on_stock_passes_on_slabmalloc(file: str, tmp_path: Path) -> None:
    name = f"test_{file}"
    if importlib.util.find_spec("test") is None or importlib.util.find_spec(f"test.{name}") is None:
        pytest.skip(f"this interpreter comes without {name}")
    entry = compare_module(sys.executable, ["-m", "test", "-v", name], None, SECONDS, tmp_path / "logs")
    print(entry)
    assert entry is not None
    assert entry["slabmalloc"]["run"] > 0
    assert not entry["differences"], (tmp_path / "logs" / "slabmalloc-1.log").read_text(errors="replace")[-5000:]
