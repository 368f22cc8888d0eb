# SPDX-License-Identifier: MIT
"""A page whose trailer has been damaged.

raises: InvalidPage: <ObjectPage of 4 KiB at PAGE, free>: invalid page: it carries no slab, or a torn one
"""

from misuse import Zone, new_page, tell

zone = Zone()
page = new_page()
page.buffer[:] = zone.page.buffer
page.buffer[-18] ^= 0x10
tell(PAGE=page.address)
zone.refuses(zone.restore, page)
