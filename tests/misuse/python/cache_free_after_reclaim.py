# SPDX-License-Identifier: MIT
"""An object of a cache, again after its slot went back to the zone.

raises: InvalidFree: ADDRESS is no object of <ObjectCache of Layout(size=64, align=8): 0 live, 0 idle>
"""

from misuse import Zone, api, tell

zone = Zone()
cache = api.ObjectCache(zone, zone.layout)
address = cache.allocate()
cache.deallocate(address)
cache.reclaim()
tell(ADDRESS=address)
zone.refuses(cache.deallocate, address)
