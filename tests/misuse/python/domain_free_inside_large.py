# SPDX-License-Identifier: MIT
"""An address inside a large block. Where other allocators are below it is theirs to judge.

stops: invalid free of ADDRESS (malloc): 4096 bytes into a large block of 1048576 bytes, which is live
forms: preload
"""

from domains import free, malloc, wrong

address = malloc(1 << 20)
free(wrong(address + 4096))
