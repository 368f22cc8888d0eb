# SPDX-License-Identifier: MIT
"""A zone is closed while a buffer of it lives: it stays open.

raises: BufferError: 1 buffers still use the memory of <Zone with 4 objects on 1 pages, 4 KiB>
"""

from misuse import Zone

zone = Zone()
buffer = zone.buffer(64, 8)
zone.refuses(zone.close)
