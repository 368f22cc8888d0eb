# SPDX-License-Identifier: MIT
"""``slabmalloc doctor``: it answers everywhere, as text and as JSON, and does not change anything."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import slabmalloc
from slabmalloc.cli.doctor import findings


def doctor(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "slabmalloc", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout


def test_json_has_the_four_sections() -> None:
    found = json.loads(doctor("--json"))
    assert list(found) == ["slabmalloc", "interpreter", "machine", "domains"]
    assert found["interpreter"]["version"] == platform.python_version()
    assert found["interpreter"]["executable"] == sys.executable
    assert found["machine"]["os_page_bytes"] == os.sysconf("SC_PAGE_SIZE")
    assert list(found["domains"]) == ["obj", "mem", "raw", "numpy"]


def test_text_names_what_json_names() -> None:
    text = doctor()
    for title, rows in findings().items():
        assert title in text.splitlines()
        for name in rows:
            assert f"  {name.replace('_', ' ')}" in text


def test_the_form_is_told() -> None:
    assert "pure Python" in json.loads(doctor("--json", SLABMALLOC_PURE="1"))["slabmalloc"]["form"]
    if slabmalloc.FORM == "native":
        assert json.loads(doctor("--json"))["slabmalloc"]["form"] == "native"


def test_reasons_against_a_domain_are_given() -> None:
    found = json.loads(doctor("--json", PYTHONTRACEMALLOC="1"))
    assert found["domains"]["obj"] is not None
    assert found["domains"]["raw"] is not None
