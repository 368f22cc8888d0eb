# SPDX-License-Identifier: MIT
"""A large block that was freed is to grow.

stops: invalid realloc of ADDRESS (DOMAIN): a large block of 1048576 bytes is already free
"""

from domains import free, malloc, realloc, wrong

address = wrong(malloc(1 << 20))
free(address)
realloc(address, 2 << 20)
