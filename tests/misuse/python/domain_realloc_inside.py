# SPDX-License-Identifier: MIT
"""An address inside a block is to grow.

stops: invalid realloc of ADDRESS (DOMAIN): 8 bytes into slot SLOT of a 3072-byte slab, which is live;
    the slab is full, 21 of 21 slots live
"""

from domains import block, realloc, wrong

address = block()
realloc(wrong(address + 8), 4000)
