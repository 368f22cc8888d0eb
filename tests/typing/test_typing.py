# SPDX-License-Identifier: MIT
"""The package as a strict type checker sees it from outside."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import slabmalloc

USAGE = Path(__file__).with_name("usage.py")
PACKAGE = Path(slabmalloc.__file__).parent

if find_spec("mypy") is None or find_spec("numpy") is None:
    pytest.skip("mypy or NumPy is not here", allow_module_level=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def complaints(client: Path, cache: Path) -> list[str]:
    """Strict mypy's errors of a client, without this project's configuration and without the package's own."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", cache, client]
    path = {"MYPYPATH": str(PACKAGE.parent)} if "site-packages" not in PACKAGE.parts else {}
    result = subprocess.run([*map(str, command)], cwd=cache, env=path, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    assert "error" in result.stdout or "Success" in result.stdout, result.stdout + result.stderr
    return [line for line in result.stdout.splitlines() if client.name in line and ": error:" in line]


def test_clients_are_typed(cache: Path) -> None:
    assert complaints(USAGE, cache) == []


def test_the_checker_checks(cache: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from slabmalloc.zone_stats import ClassStats\nsize: str = ClassStats(64, 4096, 63).capacity\n")
    (complaint,) = complaints(wrong, cache)
    assert 'expression has type "int", variable has type "str"' in complaint


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
