# SPDX-License-Identifier: MIT
"""A block of `raw`, freed by the C library's function, and again by `raw`.

stops: double free of ADDRESS (DOMAIN): slot SLOT of a 3072-byte slab is already free;
    the slab is partial, 20 of 21 slots live
domains: raw
forms: preload
"""

import ctypes

from domains import block, free, wrong

address = block()
ctypes.CDLL(None).free(ctypes.c_void_p(address))
free(wrong(address))
