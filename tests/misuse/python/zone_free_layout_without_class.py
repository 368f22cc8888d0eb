# SPDX-License-Identifier: MIT
"""A layout that no class serves.

raises: InvalidLayout: no size class serves 1048576 bytes aligned to 8: the largest is 131072 bytes
"""

from misuse import Zone, api

zone = Zone()
zone.refuses(zone.deallocate, zone.objects[0], api.Layout.from_size_align(1 << 20, 8))
