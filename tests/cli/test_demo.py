# SPDX-License-Identifier: MIT
"""The demonstration compares allocators; make demo runs it."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("variable", ["SLABMALLOC", "SLABMALLOC_DECAY_MS", "LD_PRELOAD", "PYTHONMALLOC"])
def test_stock_is_stock_whatever_is_set(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    demo = importlib.import_module("demo")
    others = dict(demo.Side("stock").environment())
    monkeypatch.setenv(variable, "1")
    assert demo.Side("stock").environment() == others
    assert variable not in others
