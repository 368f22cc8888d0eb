# SPDX-License-Identifier: MIT
"""The classic.

raises: DoubleFree: ADDRESS is free already: slot 3 of the page at PAGE
"""

from misuse import Zone, tell

zone = Zone()
tell(ADDRESS=zone.freed, PAGE=zone.page.address)
zone.refuses(zone.deallocate, zone.freed, zone.layout)
