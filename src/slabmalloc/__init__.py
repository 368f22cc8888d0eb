# SPDX-License-Identifier: MIT
"""slabmalloc: slabs over pages of any memory, from Python.

Each name is loaded when it is first used: `slabmalloc run` must not make a program wait for what it does not need.
`FORM` tells whether the library is the native one or `slabmalloc.reference` in its place (`slabmalloc.form`).
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = [
    "FORM",
    "AllocationError",
    "Buffer",
    "BufferPager",
    "ClassStats",
    "DoubleFree",
    "FilePager",
    "HugePagePager",
    "InvalidFree",
    "InvalidLayout",
    "InvalidPage",
    "LargeObjectPage",
    "Layout",
    "LimitingPager",
    "LoggingPager",
    "MmapPager",
    "ObjectCache",
    "ObjectPage",
    "OutOfMemory",
    "Page",
    "Pager",
    "SCAllocator",
    "SharedMemoryPager",
    "SizeClasses",
    "StatisticsPager",
    "TrackingPager",
    "ZoneAllocator",
    "ZoneStats",
    "install",
    "page_type",
    "stats",
    "trim",
]

TYPE_CHECKING = False  # as `typing` has it, which takes milliseconds to import
if TYPE_CHECKING:
    from typing import Any

    from .cache import ObjectCache
    from .errors import AllocationError, DoubleFree, InvalidFree, InvalidLayout, InvalidPage, OutOfMemory
    from .form import FORM, Buffer, Layout, SCAllocator, ZoneAllocator
    from .pagers import (
        BufferPager,
        FilePager,
        HugePagePager,
        LimitingPager,
        LoggingPager,
        MmapPager,
        Pager,
        SharedMemoryPager,
        StatisticsPager,
        TrackingPager,
    )
    from .pages import LargeObjectPage, ObjectPage, Page, page_type
    from .process import install, stats, trim
    from .size_classes import SizeClasses
    from .zone_stats import ClassStats, ZoneStats

_HOMES = {
    "cache": ("ObjectCache",),
    "errors": ("AllocationError", "DoubleFree", "InvalidFree", "InvalidLayout", "InvalidPage", "OutOfMemory"),
    "form": ("FORM", "Buffer", "Layout", "SCAllocator", "ZoneAllocator"),
    "pagers": tuple(name for name in __all__ if name.endswith("Pager")),
    "pages": ("LargeObjectPage", "ObjectPage", "Page", "page_type"),
    "process": ("install", "stats", "trim"),
    "size_classes": ("SizeClasses",),
    "zone_stats": ("ClassStats", "ZoneStats"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = __import__(f"{__name__}.{_HOME_OF[name]}", fromlist=[name])
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
