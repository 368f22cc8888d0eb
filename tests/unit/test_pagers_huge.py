# SPDX-License-Identifier: MIT
"""Huge pages: what is asked for first, what is fallen back to, and what is said about it."""

from __future__ import annotations

import mmap
import warnings
from pathlib import Path

import pytest

from slabmalloc.pagers import HugePagePager, anonymous
from slabmalloc.pagers.mapping import Mapping, map_anonymous, native_type
from slabmalloc.pages import LargeObjectPage, Page

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture(params=["native", "stdlib"], autouse=True)
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs on both makers of mappings."""
    if request.param == "stdlib":
        monkeypatch.setenv("SLABMALLOC_PURE", "1")
    elif native_type() is None:
        pytest.skip("the extension is not here")
    return str(request.param)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def touch(page: Page) -> None:
    view = page.buffer
    for offset in range(0, page.size, mmap.PAGESIZE):
        view[offset] = 1


@pytest.fixture
def no_explicit(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> Mapping:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(anonymous, "map_huge", refuse)


@pytest.mark.usefixtures("no_explicit")
def test_without_explicit_huge_pages_it_warns_once_and_goes_on() -> None:
    with pytest.warns(RuntimeWarning, match=r"uses (transparent|none) huge pages: no explicit huge page") as warned:
        pager = HugePagePager()
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert "nr_hugepages" in pager.reason
    page = pager.allocate_page(LargeObjectPage)
    assert page.address % LargeObjectPage.SIZE == 0
    assert pager.mode in ("transparent", "none")
    pager.release_page(page)
    del page
    pager.close()


@pytest.mark.usefixtures("no_explicit")
@pytest.mark.parametrize(
    ("switch", "mode"), [("always [madvise] never", "transparent"), ("always madvise [never]", "none"), ("", "none")]
)
def test_the_mode_says_what_the_kernel_grants(monkeypatch: pytest.MonkeyPatch, switch: str, mode: str) -> None:
    monkeypatch.setattr(anonymous, "_first_line", lambda path: switch if "transparent" in path else "0")
    with pytest.warns(RuntimeWarning, match="nr_hugepages is 0"):
        pager = HugePagePager()
    assert pager.mode == mode
    assert (switch or "unknown to this kernel") in pager.reason
    assert repr(pager).endswith(f"huge pages: {mode}>")


def test_explicit_huge_pages_are_used_until_there_are_none_left(monkeypatch: pytest.MonkeyPatch) -> None:
    left = [3]

    def limited(size: int, align: int) -> Mapping:
        if not left[0]:
            raise OSError(12, "Cannot allocate memory")
        left[0] -= 1
        return map_anonymous(size, align)

    monkeypatch.setattr(anonymous, "map_huge", limited)
    pager = HugePagePager()  # looks whether there is one
    assert (pager.mode, pager.reason) == ("explicit", "the system grants explicit huge pages")
    pages = [pager.allocate_page(LargeObjectPage) for _ in range(2)]
    assert pager.mode == "explicit"
    with pytest.warns(RuntimeWarning) as warned:
        pages += [pager.allocate_page(LargeObjectPage) for _ in range(2)]
    assert len(warned) == 1
    assert pager.mode != "explicit"
    assert warned[0].filename == __file__
    assert len({page.address for page in pages}) == 4


def test_small_pages_share_huge_ones_and_go_back_with_them() -> None:
    free = _huge_pages("free_hugepages")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what kind of huge pages these are
        pager = HugePagePager()
    pages = [pager.allocate_page() for _ in range(600)]
    assert pager.bytes_mapped == 4 * MIB
    for page in pages:
        touch(page)
    before = resident_bytes()
    if pager.mode == "explicit":
        assert free - _huge_pages("free_hugepages") == 2
    for page in pages[:500]:
        pager.release_page(page)
    assert pager.purge() == 0  # no huge page is torn for a part of it
    for page in pages[500:]:
        pager.release_page(page)
    pager.purge()
    assert pager.bytes_mapped == 0
    if pager.mode == "explicit":  # which no process has among its resident pages
        assert _huge_pages("free_hugepages") == free
    else:
        assert before - resident_bytes() > 2 * MIB


def _huge_pages(count: str) -> int:
    """Of 2 MiB, by the kernel's count of that name."""
    return int(anonymous._first_line(f"/sys/kernel/mm/hugepages/hugepages-2048kB/{count}") or 0)
