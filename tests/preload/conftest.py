# SPDX-License-Identifier: MIT
"""The C and C++ sources of this directory, compiled when a test asks for them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations"]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Compiles a source of this directory, once, with further flags of the compiler; returns the path."""
    folder = tmp_path_factory.mktemp("programs")

    def build(source: str, *flags: str) -> str:
        target = folder / Path(source).stem
        if not target.exists():
            names, standard = (("c++", "g++"), "c++17") if source.endswith(".cc") else (("cc", "gcc"), "gnu11")
            compiler = next((name for name in names if shutil.which(name)), None)
            if compiler is None:
                pytest.skip(f"no compiler for {source}: neither of {', '.join(names)}")
            command = [
                compiler,
                f"-std={standard}",
                "-O1",
                "-fno-builtin",
                "-g",
                *WARNINGS,
                "-pthread",
                *flags,
                str(HERE / source),
            ]
            done = subprocess.run([*command, "-o", str(target), "-ldl"], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        return str(target)

    return build


@pytest.fixture(scope="session")
def faults(build: Callable[..., str]) -> str:
    """The library that refuses what the system would grant, to be preloaded."""
    return build("faults.c", "-shared", "-fPIC")
