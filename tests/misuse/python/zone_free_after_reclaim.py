# SPDX-License-Identifier: MIT
"""An object of a page that has left the zone.

raises: InvalidFree: ADDRESS is on no page of <Zone with 3 objects on 1 pages, 4 KiB>
"""

from misuse import Zone, api, new_page, tell

zone = Zone()
layout = api.Layout.from_size_align(128, 8)
zone.refill(layout, new_page())
address = zone.allocate(layout)
zone.deallocate(address, layout)
assert zone.try_reclaim_base_pages(1, lambda _: None) == 1
tell(ADDRESS=address)
zone.refuses(zone.deallocate, address, layout)
