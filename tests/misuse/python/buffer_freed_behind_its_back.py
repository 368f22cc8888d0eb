# SPDX-License-Identifier: MIT
"""The address of a buffer is freed, and then the buffer is released.

raises: DoubleFree: ADDRESS is free already: slot 3 of the page at PAGE
"""

from misuse import Zone, tell

zone = Zone()
buffer = zone.buffer(64, 8)
zone.deallocate(buffer.address, zone.layout)
tell(ADDRESS=buffer.address, PAGE=zone.page.address)
zone.refuses(buffer.release)
