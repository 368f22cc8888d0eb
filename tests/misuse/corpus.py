# SPDX-License-Identifier: MIT
"""What a program of the corpus says that it must do. README.md has the rules."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent


def expected(source: Path) -> dict[str, str]:
    """The fields in the program's opening comment or docstring: `word: text`, lines joined where one is continued."""
    opening = re.search(r'/\*(?! SPDX)(.*?)\*/|"""(.*?)"""', source.read_text(), re.DOTALL)
    assert opening, source
    lines = [line.strip().removeprefix("*").strip() for line in (opening[1] or opening[2]).splitlines()]
    fields: dict[str, str] = {}
    name = None
    for line in lines[lines.index("") + 1 :]:
        field = re.fullmatch(r"([a-z]+): (.+)", line)
        if field:
            name = field[1]
            fields[name] = field[2]
        elif line:
            assert name, source
            fields[name] += " " + line
    return fields
