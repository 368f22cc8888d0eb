# SPDX-License-Identifier: MIT
"""A block that was freed is to grow.

stops: invalid realloc of ADDRESS (DOMAIN): slot SLOT of a 3072-byte slab is already free;
    the slab is partial, 20 of 21 slots live
"""

from domains import block, free, realloc, wrong

address = block()
free(address)
realloc(wrong(address), 4000)
