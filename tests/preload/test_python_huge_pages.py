# SPDX-License-Identifier: MIT
"""Programs under preload with huge pages and without: what is in them, by the kernel's account, and what goes back.

A huge page that is given back in part stays with the process, although its resident bytes fall. The kernel counts such
parts, for the whole machine: a program that gives back none must see no more of them, in one of a few trials.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from preloaded import PRELUDE, RUN, SOUND, check

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PR_SET_THP_DISABLE = 41

without_huge_pages = not SETTING.exists() or "[never]" in SETTING.read_text()
needs_huge_pages = pytest.mark.skipif(without_huge_pages, reason="the machine has no transparent huge pages")

ACCOUNTS = """
import mmap, re, time
def of_smaps(field):
    with open("/proc/self/smaps_rollup") as file:
        return int(re.search(rf"^{field}: *(\\d+) kB", file.read(), re.M)[1]) << 10

def parts_given_back():
    with open("/proc/vmstat") as file:
        return int(re.search(r"^thp_deferred_split_page (\\d+)", file.read(), re.M)[1])

def gives_none_in_part(act):
    # The count is the machine's: it is ours if it mostly stays where it is for as long a while without us.
    others_gave = 0
    for _ in range(8):
        before, begin = parts_given_back(), time.monotonic()
        act()
        after = parts_given_back()
        if after == before:
            return
        time.sleep(time.monotonic() - begin)
        others_gave += parts_given_back() != after
    assert others_gave >= 4, f"{after - before} huge pages were given back in part"

def has_huge(least):
    # Or the machine has no more of them, for anybody.
    had = of_smaps("AnonHugePages")
    if had >= least:
        return True
    other = mmap.mmap(-1, least, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    other.madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, least, mmap.PAGESIZE):
        other[at] = 1
    return of_smaps("AnonHugePages") - had < least * 3 // 4

def later():
    time.sleep(0.02)
    [object() for _ in range(5000)]
"""


def check_with_accounts(program: str, under: tuple[str, ...] = ()) -> None:
    check(ACCOUNTS + textwrap.dedent(program), under=under)


@needs_huge_pages
def test_objects_are_in_huge_pages_and_go_back() -> None:
    check_with_accounts(
        """
        assert (slabmalloc.stats().huge_pages, slabmalloc.stats().huge_page_bytes > 0) == ("on", True)
        kept = [(str(i) * 10, [i]) for i in range(300_000)]
        assert has_huge(slabmalloc.stats().mapped_bytes * 3 // 4)
        peak = slabmalloc.stats().mapped_bytes
        del kept
        slabmalloc.trim()
        stats = slabmalloc.stats()
        assert stats.mapped_bytes < peak // 4 and stats.given_back_bytes >= peak // 2
        assert of_smaps("Rss") < peak // 2
        """,
        under=("--huge-pages",),
    )


@needs_huge_pages
@pytest.mark.parametrize("decay", ["0", "0.1"])
@pytest.mark.parametrize("under", [(), ("--huge-pages",)], ids=["off", "on"])
def test_no_huge_page_goes_back_in_part(under: tuple[str, ...], decay: str) -> None:
    check_with_accounts(
        """
        try:
            import numpy as np
        except ImportError:
            np = None
        def act():
            kept = [(str(i) * 10, [i]) for i in range(100_000)]
            kept = kept[::300]
            if np:
                arrays = [np.ones(size) for size in (600_000, 1_000_003, 524_289, 3_000_000)]
                arrays[1].resize(700_001, refcheck=False)
                arrays[3].resize(1_200_000, refcheck=False)
                del arrays[::2]
            grown = bytearray()
            for _ in range(40):
                grown += bytes(150_000)
            del grown[2_500_000:]
            for _ in range(15):
                later()
            slabmalloc.trim()
        gives_none_in_part(act)
        """,
        under=(*under, f"--decay={decay}"),
    )


@needs_huge_pages
def test_without_the_option_only_what_numpy_asks_for_is_huge() -> None:
    pytest.importorskip("numpy")
    check_with_accounts(
        """
        import numpy as np
        kept = [(str(i) * 10, [i]) for i in range(300_000)]
        assert slabmalloc.stats().huge_pages == "off" and slabmalloc.stats().huge_page_bytes == 0
        arrays = [np.ones(1 << 20) for _ in range(4)]
        def mapping(address):
            # its bytes, those of it in huge pages, its flags
            with open("/proc/self/smaps") as file:
                for line in file:
                    if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                        low, high = (int(word, 16) for word in match.groups())
                    elif low <= address < high and line.startswith("AnonHugePages:"):
                        huge = int(line.split()[1]) << 10
                    elif low <= address < high and line.startswith("VmFlags:"):
                        return high - low, huge, line.split()[1:]
        size, huge, flags = mapping(id(kept[1000]))
        assert size >= 32 << 20 and huge == 0 and "nh" in flags
        size, huge, flags = mapping(arrays[0].ctypes.data + (1 << 20))
        assert "hg" in flags and (huge >= 6 << 20 or has_huge(of_smaps("AnonHugePages") + (6 << 20)))
        """
    )


@needs_huge_pages
def test_the_summary_tells_of_huge_pages() -> None:
    def errors_of(*options: str) -> str:
        command = [
            sys.executable,
            "-m",
            "slabmalloc",
            "run",
            *options,
            "-c",
            "kept = [bytes(500) for _ in range(40_000)]",
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stderr

    on, off = json.loads(errors_of("--huge-pages", "--json")), json.loads(errors_of("--json"))
    assert (on["huge_pages"], off["huge_pages"]) == ("on", "off")
    assert on["huge_page_bytes"] > 0
    assert off["huge_page_bytes"] == 0
    assert 0 < on["resident_huge_bytes"] <= on["resident_bytes"] + on["huge_page_bytes"]
    assert " MiB of it in huge pages; " in errors_of("--huge-pages")


def test_why_they_are_not_used_is_told() -> None:
    """A process that may have none, on whatever machine."""
    program = "print(slabmalloc.stats().huge_pages, slabmalloc.stats().huge_page_bytes)"

    def refuse() -> None:
        ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)

    for words in ([*RUN, "--huge-pages"], [*RUN, "--in-process", "--huge-pages"]):
        code = PRELUDE.replace('assert _pymem.form() == "preload"', "slabmalloc.install()") + program + SOUND
        command = [sys.executable, *words, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=refuse)
        assert done.stdout == "the system gives this process none 0\nsound\n"
        assert done.stderr == "slabmalloc: huge pages are not used: the system gives this process none\n"


@pytest.mark.parametrize(("value", "state"), [("0", "off"), ("", "off"), ("yes", "on"), ("1", "on")])
def test_the_variable(value: str, state: str) -> None:
    if state == "on" and without_huge_pages:
        pytest.skip("the machine has no transparent huge pages")
    assert check("print(slabmalloc.stats().huge_pages)", SLABMALLOC_HUGE_PAGES=value) == f"{state}\n"


@needs_huge_pages
def test_threads_and_children_in_huge_pages() -> None:
    check(
        """
        def work(seed):
            held = []
            for step in range(30_000):
                held.append(bytes((step * seed) % 5000))
                if len(held) > 2000:
                    del held[::2]
            held.append(bytearray(3 << 20))
        in_threads(work)
        sound()
        kept = [str(i) for i in range(100_000)]
        child = os.fork()
        if child == 0:
            kept = kept[::2]
            more = [bytes(300) for _ in range(50_000)]
            slabmalloc.trim()
            sound()
            os._exit(0)
        kept = kept[1::2]
        slabmalloc.trim()
        wait_for(child)
        del kept
        gc.collect()
        slabmalloc.trim()
        """,
        under=("--huge-pages", "--decay=0.05"),
    )
