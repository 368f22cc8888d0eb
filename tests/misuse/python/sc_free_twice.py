# SPDX-License-Identifier: MIT
"""The classic, on an allocator of one size.

raises: DoubleFree: ADDRESS is free already: slot 0 of the page at PAGE
"""

from misuse import Zone, api, new_page, tell

zone, allocator, page = Zone(), api.SCAllocator(64), new_page()
allocator.refill(page)
address = allocator.allocate(zone.layout)
allocator.deallocate(address, zone.layout)
tell(ADDRESS=address, PAGE=page.address)
zone.refuses(allocator.deallocate, address, zone.layout)
allocator.audit()
