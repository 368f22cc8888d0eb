# SPDX-License-Identifier: MIT
"""Freed before fork, and again in the child.

stops: double free of ADDRESS (DOMAIN): slot SLOT of a 3072-byte slab is already free;
    the slab is partial, 20 of 21 slots live
"""

import os

from domains import block, free, wrong

address = block()
free(address)
child = os.fork()
if child == 0:
    free(wrong(address))
    os._exit(99)
status = os.waitpid(child, 0)[1]
os.kill(os.getpid(), os.WTERMSIG(status))
