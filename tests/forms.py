# SPDX-License-Identifier: MIT
"""The two forms of the library, and memory for both.

`reference` is plain Python and always there. `native` is the package itself where its extension can be loaded, else
None. `Memory` is a pager whose every move is known: two of them hand out corresponding pages for the same calls, so
that what the two forms do can be compared by page number and offset instead of by address.
"""

from __future__ import annotations

import mmap
import sysconfig
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from slabmalloc import reference
from slabmalloc.errors import InvalidPage, OutOfMemory
from slabmalloc.pages import ObjectPage, Page, address_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

native: ModuleType | None
try:
    import slabmalloc._native
except ImportError:
    native = None
else:
    native = slabmalloc if slabmalloc.FORM == "native" else None

IS_FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
needs_domains = pytest.mark.skipif(IS_FREE_THREADED, reason="a free-threaded interpreter keeps obj and mem to itself")
# What it says when `_native` turns its lock on is expected.
EXPECTED_WARNING = "ignore:The global interpreter lock:RuntimeWarning"

FORMS: dict[str, ModuleType | None] = {"reference": reference, "native": native}


def new_page(page_type: type[Page] = ObjectPage) -> Page:
    """A page of fresh memory, which lives as long as the page."""
    memory = mmap.mmap(-1, 2 * page_type.SIZE)
    return page_type(memory, -address_of(memory) % page_type.SIZE)


class Memory:
    """A pager. New pages are numbered from 0 on, the one that came back last goes out first, `limit` out at most."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.pages: list[Page] = []  # by number
        self.out: set[Page] = set()
        self.trouble: Any = None  # the answer to the next request instead of a page; raised, if it is an exception
        self._numbers: dict[tuple[int, int], int] = {}  # by address and size
        self._idle: dict[type[Page], list[Page]] = defaultdict(list)

    def allocate_page(self, page_type: type[Page] = ObjectPage) -> Page:
        trouble, self.trouble = self.trouble, None
        if isinstance(trouble, BaseException):
            raise trouble
        if isinstance(trouble, Page) and trouble in self.pages and not trouble.in_use:
            trouble = None  # the page came back meanwhile, and would be no trouble
        if trouble is not None:
            return trouble  # type: ignore[no-any-return]
        if len(self.out) >= self.limit:
            raise OutOfMemory(f"{self.limit} pages are out")
        if self._idle[page_type]:
            page = self._idle[page_type].pop()
        else:
            page = new_page(page_type)
            self._numbers[page.address, page.SIZE] = len(self.pages)
            self.pages.append(page)
        self.out.add(page)
        return page

    def release_page(self, page: Page) -> None:
        if page not in self.out or page.in_use:
            raise InvalidPage(f"{page!r} can't come back")
        self.out.remove(page)
        self._idle[type(page)].append(page)

    @property
    def pages_in_use(self) -> int:
        return len(self.out)

    def place_of(self, address: int) -> tuple[int, int]:
        """Number of the page, and offset in it."""
        for size in {page.SIZE for page in self.pages}:
            number = self._numbers.get((address & -size, size))
            if number is not None:
                return number, address % size
        raise LookupError(f"{address:#x} is on no page of this memory")

    def address_of(self, place: tuple[int, int]) -> int:
        """Where `place_of` came from."""
        return self.pages[place[0]].address + place[1]


class RetainingMemory(Memory):
    """The same, but pages with live objects are kept for the zone that comes next, as a file would."""

    def __init__(self, limit: int = 1 << 30) -> None:
        super().__init__(limit)
        self._retained: set[Page] = set()

    def retain_page(self, page: Page, live: int) -> None:
        assert live > 0
        assert page in self.out
        assert not page.in_use
        self._retained.add(page)

    def retained_pages(self) -> Iterable[Page]:
        kept, self._retained = self._retained, set()
        return sorted(kept, key=self.pages.index)
