# SPDX-License-Identifier: MIT
"""Which form of the library serves (floor 5): native, or the same in plain Python.

Native where the extension can be loaded; else, and with ``SLABMALLOC_PURE=1`` in the environment,
`slabmalloc.reference`.
"""

from typing import TYPE_CHECKING

from .switches import is_on

__all__ = ["FORM", "Buffer", "Layout", "SCAllocator", "ZoneAllocator"]

FORM: str
"""Which of them: "native" or "pure"."""

if TYPE_CHECKING:
    from ._native import Buffer, Layout
    from .zone import SCAllocator, ZoneAllocator
elif is_on("SLABMALLOC_PURE"):
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
        warnings.warn(f"slabmalloc runs in plain Python, slowly: {error}", RuntimeWarning, stacklevel=3)
