# SPDX-License-Identifier: MIT
"""A block with a mapping of its own, twice: it rests.

stops: double free of ADDRESS (DOMAIN): a large block of 1048576 bytes is already free
"""

from domains import free, malloc, wrong

address = wrong(malloc(1 << 20))
free(address)
free(address)
