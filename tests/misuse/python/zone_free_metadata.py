# SPDX-License-Identifier: MIT
"""An address in the page's meta-data.

raises: InvalidFree: ADDRESS is behind the last of 63 slots, in the end of the page at PAGE
"""

from misuse import Zone, tell

zone = Zone()
address = zone.page.address + 4096 - 32
tell(ADDRESS=address, PAGE=zone.page.address)
zone.refuses(zone.deallocate, address, zone.layout)
