# SPDX-License-Identifier: MIT
"""An address that stands twice in one call: nothing is freed.

raises: DoubleFree: addresses[2]: ADDRESS is free already: slot 0 of the page at PAGE
"""

from misuse import Zone, tell

zone = Zone()
first, second, _ = zone.objects
tell(ADDRESS=first, PAGE=zone.page.address)
zone.refuses(zone.deallocate_many, [first, second, first], zone.layout)
