# SPDX-License-Identifier: MIT
"""Fixtures that every test directory may use: the two forms of the library, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forms import FORMS, Memory

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture(params=FORMS)
def api(request: pytest.FixtureRequest) -> ModuleType:
    """A namespace with the library's names: `slabmalloc.reference`, then the native package."""
    form = FORMS[request.param]
    if form is None:
        pytest.skip("the extension can't be loaded here, or SLABMALLOC_PURE hides it")
    return form


@pytest.fixture
def memory() -> Memory:
    """A pager over fresh memory."""
    return Memory()
