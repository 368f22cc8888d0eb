# SPDX-License-Identifier: MIT
"""A page that the zone has already.

raises: InvalidPage: <ObjectPage of 4 KiB at PAGE, in use by Zone at ZONE> can't be taken twice: reclaim it from there
    first
"""

from misuse import Zone, tell

zone = Zone()
tell(PAGE=zone.page.address, ZONE=id(zone))
zone.refuses(zone.refill, zone.layout, zone.page)
