# SPDX-License-Identifier: MIT
"""One address of many is wrong: nothing is freed.

raises: InvalidFree: addresses[1]: ADDRESS is 8 bytes into slot 1 of the page at PAGE, which begins at OBJECT
"""

from misuse import Zone, tell

zone = Zone()
first, second, third = zone.objects
tell(ADDRESS=second + 8, PAGE=zone.page.address, OBJECT=second)
zone.refuses(zone.deallocate_many, [first, second + 8, third], zone.layout)
