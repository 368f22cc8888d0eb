# SPDX-License-Identifier: MIT
"""SLABMALLOC_DOMAINS means the same whichever way the library comes in, and what it can't mean is said."""

from __future__ import annotations

import pytest
from preloaded import LIBRARY
from started import start

from forms import needs_domains

TELL = "import slabmalloc; print(*(name for name in ('obj', 'mem', 'raw') if name in slabmalloc.stats().domains))"
RUN = ["-m", "slabmalloc", "run", "--quiet"]
WAYS = {
    "run": (RUN, None, {}),
    "start-up file": ([], "preload", {}),
    "by hand": ([], None, {"LD_PRELOAD": LIBRARY}),
    "run in process": ([*RUN, "--in-process"], None, {}),
    "start-up file in process": ([], "in-process", {}),
}
ALL = "obj mem raw\n"

pytestmark = [needs_domains]


def served(way: str, value: str) -> tuple[str, str]:
    words, variable, more = WAYS[way]
    done = start(*words, "-c", TELL, value=variable, variables={**more, "SLABMALLOC_DOMAINS": value})
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_blanks_and_commas_do_not_matter(way: str) -> None:
    assert served(way, " raw ,, obj\t") == ("obj raw\n", "")
    assert served(way, " ") == (ALL, "")


@pytest.mark.parametrize("way", WAYS)
def test_what_names_no_domain_is_said_and_the_default_taken(way: str) -> None:
    remedy = "name some of obj, mem, raw" + (", numpy" if "process" in way else ", or none to have malloc alone served")
    unknown = f"slabmalloc: SLABMALLOC_DOMAINS is not used: '{{}}' is not a domain that can be served so; {remedy}\n"
    assert served(way, "obj,memm") == (ALL, unknown.format("memm"))
    assert served(way, "OBJ") == (ALL, unknown.format("OBJ"))
    both = f"slabmalloc: SLABMALLOC_DOMAINS is not used: 'none,obj' names domains and none as well; {remedy}\n"
    assert served(way, "none,obj") == (ALL, both)


@pytest.mark.parametrize("way", ["run", "start-up file", "by hand"])
def test_numpy_is_served_by_malloc_under_preload(way: str) -> None:
    assert served(way, "obj,numpy") == ("obj\n", "")
    assert served(way, "none") == ("\n", "")
    output, errors = served(way, "numpy")
    assert output == ALL
    assert errors.startswith("slabmalloc: SLABMALLOC_DOMAINS is not used: under preload 'numpy' is served by malloc")
    assert errors.count("\n") == 1


def test_programs_that_are_no_python_say_nothing() -> None:
    done = start("-c", "", value=None, python="/bin/true", variables={"LD_PRELOAD": LIBRARY, "SLABMALLOC_DOMAINS": "x"})
    assert (done.returncode, done.stderr) == (0, "")
