# SPDX-License-Identifier: MIT
"""Where pages come from: pagers and their adaptors (floor 5).

`Pager` is the contract. `MmapPager` and `HugePagePager` take memory from the system, `BufferPager` from the client,
`FilePager` and `SharedMemoryPager` keep it beyond the process. The adaptors wrap any of them, or a client's own, and
one another. docs/pagers.md says which to take.
"""

from .adaptors import LimitingPager, LoggingPager, PagerStats, PageTypeStats, StatisticsPager, TrackingPager
from .anonymous import HugePagePager, MmapPager
from .buffer import BufferPager
from .file import FilePager
from .protocol import Pager, RetainingPager
from .segment_pager import Recovery
from .shared_memory import SharedMemoryPager

__all__ = [
    "BufferPager",
    "FilePager",
    "HugePagePager",
    "LimitingPager",
    "LoggingPager",
    "MmapPager",
    "PageTypeStats",
    "Pager",
    "PagerStats",
    "Recovery",
    "RetainingPager",
    "SharedMemoryPager",
    "StatisticsPager",
    "TrackingPager",
]
