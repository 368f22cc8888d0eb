# SPDX-License-Identifier: MIT
"""``slabmalloc doctor``: it answers everywhere, as text and as JSON, and does not change anything."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import slabmalloc
from forms import IS_FREE_THREADED
from slabmalloc.cli.doctor import findings


def doctor(*arguments: str, options: tuple[str, ...] = (), **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-m", "slabmalloc", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout


def test_json_has_the_five_sections() -> None:
    found = json.loads(doctor("--json"))
    assert list(found) == ["slabmalloc", "start_file", "interpreter", "machine", "domains"]
    assert found["interpreter"]["version"] == platform.python_version()
    assert found["interpreter"]["executable"] == sys.executable
    assert found["machine"]["os_page_bytes"] == os.sysconf("SC_PAGE_SIZE")
    assert list(found["domains"]) == ["obj", "mem", "raw", "numpy"]


def test_text_names_what_json_names() -> None:
    text = doctor()
    for title, rows in findings().items():
        assert title.replace("_", " ") in text.splitlines()
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


def start_file(value: str, *options: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(doctor("--json", options=options, SLABMALLOC=value))["start_file"]
    return found


def test_the_start_up_file_is_found_and_what_it_did_is_told() -> None:
    found = start_file("0")
    assert found == {"file": found["file"], "SLABMALLOC": "0", "effect": "none: SLABMALLOC asks for nothing"}
    assert Path(found["file"]).samefile(Path(slabmalloc.__file__).parent.parent / "slabmalloc.pth")
    assert "'x' is not known" in start_file("x")["effect"]
    assert "-I" in start_file("preload", "-I")["effect"]
    if importlib.util.find_spec("slabmalloc.process._pymem") is not None:
        assert start_file("preload")["effect"] == "started anew on the preload library"
        served = "keeps its own heaps" if IS_FREE_THREADED else "served in process"
        assert served in start_file("in-process")["effect"]


def test_without_a_start_up_file_there_is_no_effect(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True, timeout=60)
    done = subprocess.run(
        [str(tmp_path / "bin" / "python"), "-m", "slabmalloc", "doctor", "--json"],
        env={**os.environ, "SLABMALLOC": "preload", "PYTHONPATH": str(Path(slabmalloc.__file__).parent.parent)},
        capture_output=True,
        check=True,
    )
    effect = "none: there is no start-up file in this environment"
    assert json.loads(done.stdout)["start_file"] == {"file": None, "SLABMALLOC": "preload", "effect": effect}


def test_what_follows_from_the_setting_of_huge_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(setting: str, of_size: str | None = None, bytes_each: int = 2 << 20) -> str:
        (tmp_path / "enabled").write_text(setting)
        (tmp_path / "hpage_pmd_size").write_text(f"{bytes_each}\n")
        folder = tmp_path / f"hugepages-{bytes_each >> 10}kB"
        folder.mkdir(exist_ok=True)
        (folder / "enabled").write_text(of_size or "always [inherit] madvise never\n")
        return str(findings()["slabmalloc"]["huge_pages"])

    monkeypatch.setattr("slabmalloc.cli.doctor.HUGE_PAGES", tmp_path)
    assert "none on this machine" in str(findings()["slabmalloc"]["huge_pages"])
    assert "none on this machine" in told("always madvise [never]\n")
    assert "none on this machine" in told("[always] madvise never\n", "always inherit madvise [never]\n")
    if "THP_enabled:\t0" in Path("/proc/self/status").read_text():
        pytest.skip("this process was started without huge pages")
    assert told("always [madvise] never\n").endswith("without it blocks above 128 KiB where NumPy asks for them")
    assert told("[always] madvise never\n").endswith("without it blocks above 128 KiB as the machine gives them")
    assert "512 MiB are too large" in told("[always] madvise never\n", bytes_each=512 << 20)
    assert findings()["machine"]["transparent_huge_page_bytes"] == 512 << 20
