# SPDX-License-Identifier: MIT
"""An address on no page.

raises: InvalidFree: 0x1000 is on no page of <Zone with 3 objects on 1 pages, 4 KiB>
"""

from misuse import Zone

zone = Zone()
zone.refuses(zone.deallocate, 0x1000, zone.layout)
