# SPDX-License-Identifier: MIT
"""An alignment that is no power of two.

raises: InvalidLayout: alignment 24 is not a power of two
"""

from misuse import Zone, api

zone = Zone()
zone.refuses(api.Layout.from_size_align, 64, 24)
