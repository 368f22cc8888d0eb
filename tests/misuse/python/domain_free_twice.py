# SPDX-License-Identifier: MIT
"""A block of a domain, twice.

stops: double free of ADDRESS (DOMAIN): slot SLOT of a 3072-byte slab is already free;
    the slab is partial, 20 of 21 slots live
"""

from domains import block, free, wrong

address = block()
free(address)
free(wrong(address))
