# SPDX-License-Identifier: MIT
"""Executables into which the dynamic linker preloads nothing are known beforehand."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from slabmalloc.process import preload

try:
    preload.library()
except RuntimeError as reason:  # an installation without native parts: nothing is preloaded anywhere
    pytest.skip(str(reason), allow_module_level=True)


@pytest.fixture
def executable(tmp_path: Path) -> Path:
    return Path(shutil.copy(sys.executable, tmp_path / "python"))


def assert_told(words: str, executable: Path) -> None:
    """The reason, and what to do about it."""
    reason = str(preload.obstacle(str(executable)))
    assert reason.startswith(str(executable))
    assert words in reason
    assert reason.endswith(f"; {preload.WITHOUT_PRELOAD}")
    assert "slabmalloc run --in-process" in reason
    assert "SLABMALLOC=in-process" in reason


def test_nothing_is_in_the_way_of_a_plain_executable(executable: Path) -> None:
    assert preload.obstacle(str(executable)) is None


@pytest.mark.parametrize("bit", [stat.S_ISUID, stat.S_ISGID])
def test_setuid_and_setgid(executable: Path, bit: int) -> None:
    executable.chmod(0o755 | bit)
    if not executable.stat().st_mode & bit:
        pytest.skip("the file system keeps no such bits")
    assert_told("setuid or setgid", executable)


def test_file_capabilities(executable: Path) -> None:
    setcap = shutil.which("setcap", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if setcap is None or subprocess.run([setcap, "cap_net_raw+ep", executable], check=False).returncode != 0:
        pytest.skip("file capabilities can't be set here")
    assert_told("file capabilities", executable)


def test_a_static_program(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("int main(void) { return 0; }")
    program = tmp_path / "static"
    words = ["cc", "-static", str(tmp_path / "main.c"), "-o", str(program)]
    if shutil.which("cc") is None or subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("no static programs can be linked here")
    assert_told("statically linked", program)
