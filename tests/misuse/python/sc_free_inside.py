# SPDX-License-Identifier: MIT
"""An address inside an object, on an allocator of one size.

raises: InvalidFree: ADDRESS is 8 bytes into slot 0 of the page at PAGE, which begins at PAGE
"""

from misuse import Zone, api, new_page, tell

zone, allocator, page = Zone(), api.SCAllocator(64), new_page()
allocator.refill(page)
address = allocator.allocate(zone.layout) + 8
tell(ADDRESS=address, PAGE=page.address)
zone.refuses(allocator.deallocate, address, zone.layout)
allocator.audit()
