# SPDX-License-Identifier: MIT
"""The address that a block had before realloc moved it.

stops: double free of ADDRESS (DOMAIN): slot SLOT of a 3072-byte slab is already free;
    the slab is partial, 20 of 21 slots live
"""

from domains import block, free, realloc, wrong

address = block()
assert realloc(address, 9000) != address
free(wrong(address))
