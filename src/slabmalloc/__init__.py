# SPDX-License-Identifier: MIT
"""slabmalloc: slabs over pages of any memory, from Python.

The native form where its extension can be loaded; else, or with ``SLABMALLOC_PURE=1`` in the environment, the same
library in plain Python (`slabmalloc.reference`). `FORM` tells which: "native" or "pure".
"""

import os
from typing import TYPE_CHECKING

from .cache import ObjectCache
from .errors import AllocationError, DoubleFree, InvalidFree, InvalidLayout, InvalidPage, OutOfMemory
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

FORM: str

if TYPE_CHECKING:
    from ._native import Buffer, Layout
    from .zone import SCAllocator, ZoneAllocator
elif os.environ.get("SLABMALLOC_PURE", "0") not in ("", "0"):
    from .reference import Buffer, Layout, SCAllocator, ZoneAllocator

    FORM = "pure"
else:
    try:
        from ._native import Buffer, Layout
        from .zone import SCAllocator, ZoneAllocator

        FORM = "native"
    except ImportError as error:
        import warnings

        from .reference import Buffer, Layout, SCAllocator, ZoneAllocator

        FORM = "pure"
        warnings.warn(f"slabmalloc runs in plain Python, slowly: {error}", RuntimeWarning, stacklevel=2)
