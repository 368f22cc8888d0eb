# SPDX-License-Identifier: MIT
"""A page that carries no slab.

raises: InvalidPage: <ObjectPage of 4 KiB at PAGE, free>: invalid page: it carries no slab, or a torn one
"""

from misuse import Zone, new_page, tell

zone = Zone()
page = new_page()
tell(PAGE=page.address)
zone.refuses(zone.restore, page)
