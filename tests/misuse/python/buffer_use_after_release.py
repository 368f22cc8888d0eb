# SPDX-License-Identifier: MIT
"""A buffer that was released is looked into.

raises: ValueError: this buffer is released
"""

from misuse import Zone

zone = Zone()
buffer = zone.buffer(64, 8)
buffer.release()
zone.refuses(memoryview, buffer)
