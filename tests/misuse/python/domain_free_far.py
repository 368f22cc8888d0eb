# SPDX-License-Identifier: MIT
"""An address that the heap has reserved, and not used yet.

stops: invalid free of ADDRESS (DOMAIN): in the heap's range, but on no slab
"""

from domains import block, free, wrong

address = block()
free(wrong(address + (1 << 31)))
