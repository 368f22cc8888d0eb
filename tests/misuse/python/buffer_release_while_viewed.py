# SPDX-License-Identifier: MIT
"""A buffer is released while something looks into it.

raises: BufferError: 1 views still look into this buffer
"""

from misuse import Zone

zone = Zone()
buffer = zone.buffer(64, 8)
view = memoryview(buffer)
zone.refuses(buffer.release)
