# SPDX-License-Identifier: MIT
"""An object of a cache, again while it waits, constructed, to be used once more.

raises: DoubleFree: ADDRESS is free already: it waits in <ObjectCache of Layout(size=64, align=8): 0 live, 1 idle>
"""

from misuse import Zone, api, tell

zone = Zone()
cache = api.ObjectCache(zone, zone.layout)
address = cache.allocate()
cache.deallocate(address)
tell(ADDRESS=address)
zone.refuses(cache.deallocate, address)
