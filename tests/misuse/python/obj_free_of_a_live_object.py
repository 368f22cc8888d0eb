# SPDX-License-Identifier: MIT
"""The memory of an object that lives is freed: its own end is the second free.

stops: double free of ADDRESS (DOMAIN): slot SLOT of a 3072-byte slab is already free;
    the slab is partial, 20 of 21 slots live
domains: obj
"""

from domains import free, full_page, wrong

objects = {id(made): made for made in [bytes(3000 - 33) for _ in range(100)]}
victim = wrong(full_page(objects)[10])
free(victim)
del objects[victim]
