# SPDX-License-Identifier: MIT
"""A layout of another class than the object's.

raises: InvalidFree: ADDRESS is an object of 64 bytes, not of 80, the class of Layout(size=80, align=8)
"""

from misuse import Zone, api, tell

zone = Zone()
tell(ADDRESS=zone.objects[0])
zone.refuses(zone.deallocate, zone.objects[0], api.Layout.from_size_align(80, 8))
