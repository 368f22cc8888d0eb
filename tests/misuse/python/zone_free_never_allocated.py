# SPDX-License-Identifier: MIT
"""A slot that nobody has had.

raises: DoubleFree: ADDRESS is free already: slot 62 of the page at PAGE
"""

from misuse import Zone, tell

zone = Zone()
address = zone.page.address + 62 * 64
tell(ADDRESS=address, PAGE=zone.page.address)
zone.refuses(zone.deallocate, address, zone.layout)
