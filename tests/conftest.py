# SPDX-License-Identifier: MIT
"""Fixtures that every test directory may use: the two forms of the library, one after the other."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from forms import FORMS, Memory

if TYPE_CHECKING:
    from types import ModuleType


def pytest_sessionstart() -> None:
    """Programs inherit the signals that are ignored: those that a job in the background ignores are not, here."""
    for number, action in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, action)


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
