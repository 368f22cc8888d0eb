# SPDX-License-Identifier: MIT
"""A class that has no page, in a zone without a pager.

raises: OutOfMemory: no slot of 112 bytes is free: refill with one more ObjectPage
"""

from misuse import Zone, api

zone = Zone()
zone.refuses(zone.allocate, api.Layout.from_size_align(100, 8))
