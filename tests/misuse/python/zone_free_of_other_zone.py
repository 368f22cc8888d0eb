# SPDX-License-Identifier: MIT
"""An object of another zone.

raises: InvalidFree: ADDRESS is on no page of <Zone with 3 objects on 1 pages, 4 KiB>
"""

from misuse import Zone, tell

zone, other = Zone(), Zone()
tell(ADDRESS=other.objects[0])
zone.refuses(zone.deallocate, other.objects[0], zone.layout)
