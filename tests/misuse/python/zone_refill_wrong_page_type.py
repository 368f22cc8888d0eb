# SPDX-License-Identifier: MIT
"""An object page's place for a large page.

raises: InvalidLayout: objects of 64 bytes live on ObjectPage, not on <LargeObjectPage of 2 MiB at PAGE, free>
"""

from misuse import LargeObjectPage, Zone, new_page, tell

zone = Zone()
page = new_page(LargeObjectPage)
tell(PAGE=page.address)
zone.refuses(zone.refill, zone.layout, page)
