# SPDX-License-Identifier: MIT
"""Freed by another thread, and again by the main one.

stops: double free of ADDRESS (DOMAIN): slot SLOT of a 3072-byte slab is already free;
    the slab is partial, 20 of 21 slots live
"""

from domains import block, free, in_thread, wrong

address = block()
in_thread(free, address)
free(wrong(address))
