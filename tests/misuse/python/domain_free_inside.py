# SPDX-License-Identifier: MIT
"""An address inside a block of a domain.

stops: invalid free of ADDRESS (DOMAIN): 8 bytes into slot SLOT of a 3072-byte slab, which is live;
    the slab is full, 21 of 21 slots live
"""

from domains import block, free, wrong

address = block()
free(wrong(address + 8))
