# SPDX-License-Identifier: MIT
"""A page that another zone has.

raises: InvalidPage: <ObjectPage of 4 KiB at PAGE, in use by Zone at ZONE> can't be taken twice: reclaim it from there
    first
"""

from misuse import Zone, tell

zone, other = Zone(), Zone()
tell(PAGE=other.page.address, ZONE=id(other))
zone.refuses(zone.refill, zone.layout, other.page)
