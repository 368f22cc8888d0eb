# SPDX-License-Identifier: MIT
"""An object above the largest class.

raises: InvalidLayout: no size class serves 131073 bytes aligned to 8: the largest is 131072 bytes
"""

from misuse import Zone, api

zone = Zone()
zone.refuses(zone.allocate, api.Layout.from_size_align(131073, 8))
