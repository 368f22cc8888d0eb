# SPDX-License-Identifier: MIT
"""slabmalloc: slabs over pages of any memory, from Python.

The native form where its extension can be loaded; else, or with ``SLABMALLOC_PURE=1`` in the environment, the same library
in plain Python (`slabmalloc.reference`), which `FORM` tells.
"""

import os as _os

from .errors import AllocationError, DoubleFree, InvalidFree, InvalidLayout, InvalidPage, OutOfMemory
from .pages import LargeObjectPage, ObjectPage, Page, page_type
from .size_classes import SizeClasses
from .stats import ClassStats, ZoneStats

__version__ = "0.1.0"

if _os.environ.get("SLABMALLOC_PURE", "0") not in ("", "0"):
    from .reference import Buffer, Layout, SCAllocator, ZoneAllocator

    FORM = "pure"
else:
    try:
        from ._native import Buffer, Layout
        from .zone import SCAllocator, ZoneAllocator

        FORM = "native"
    except ImportError as _error:
        import warnings as _warnings

        from .reference import Buffer, Layout, SCAllocator, ZoneAllocator

        _warnings.warn(f"slabmalloc runs in plain Python, slowly: {_error}", RuntimeWarning, stacklevel=2)
        FORM = "pure"

from .cache import ObjectCache
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
from .process import install, stats, trim
