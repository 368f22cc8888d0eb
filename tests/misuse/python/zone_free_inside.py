# SPDX-License-Identifier: MIT
"""An address inside an object.

raises: InvalidFree: ADDRESS is 8 bytes into slot 1 of the page at PAGE, which begins at OBJECT
"""

from misuse import Zone, tell

zone = Zone()
address = zone.objects[1] + 8
tell(ADDRESS=address, PAGE=zone.page.address, OBJECT=zone.objects[1])
zone.refuses(zone.deallocate, address, zone.layout)
