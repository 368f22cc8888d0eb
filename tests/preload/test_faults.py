# SPDX-License-Identifier: MIT
"""Each request to the system refused in turn: malloc says ENOMEM, and what is told in `refusals.c` holds."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from preloaded import LIBRARY
from test_malloc import cases

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent
HEADERS = [f"-I{ROOT / folder}" for folder in ("core", "core/include", "bindings")]
FROM_THE_START = "the_first_of_all_is_refused"


def refusals(build: Callable[..., str], faults: str, case: str, **variables: str) -> None:
    environment = {"PATH": os.environ["PATH"], "LD_PRELOAD": f"{LIBRARY}:{faults}", **variables}
    done = subprocess.run(
        [build("refusals.c", *HEADERS), case], env=environment, capture_output=True, text=True, timeout=480
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("case", [case for case in cases("refusals.c") if case != FROM_THE_START])
def test_malloc_while_the_system_refuses(build: Callable[..., str], faults: str, case: str) -> None:
    refusals(build, faults, case)


@pytest.mark.parametrize(
    "case",
    [
        "addresses_are_granted_and_no_memory",
        "threads_start_without_memory",
        "children_are_made_without_memory",
        pytest.param("one_request_is_refused", marks=pytest.mark.slow),
        pytest.param("all_from_one_on_are_refused", marks=pytest.mark.slow),
    ],
)
def test_hardened_malloc_while_the_system_refuses(build: Callable[..., str], faults: str, case: str) -> None:
    refusals(build, faults, case, SLABMALLOC_HARDENED="1")


def test_malloc_while_the_system_refuses_from_the_start(build: Callable[..., str], faults: str) -> None:
    refusals(build, faults, FROM_THE_START, FAULTS=f"7 1 {2**63} 12")
