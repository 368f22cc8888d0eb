# SPDX-License-Identifier: MIT
"""Something that is no address at all.

raises: TypeError: an address is an int, not str
"""

from misuse import Zone

zone = Zone()
zone.refuses(zone.deallocate, "0x1000", zone.layout)
