# SPDX-License-Identifier: MIT
"""What the programs on CPython's domains share: the functions of the domain that the command line names.

Each tells the address that its last call is given; that call must end the process. The slab of what `block` returns is
full of such blocks, since the interpreter asks for none of that size: so what the line says of the slab is known.
"""

import ctypes
import sys
import threading
from collections import defaultdict

import slabmalloc

__all__ = ["block", "free", "full_page", "in_thread", "malloc", "realloc", "wrong"]

slabmalloc.install(sys.argv[1])

PREFIX = {"obj": "PyObject_", "mem": "PyMem_", "raw": "PyMem_Raw"}[sys.argv[1]]


def declare(name, result, *arguments):
    function = getattr(ctypes.pythonapi, PREFIX + name)
    function.argtypes, function.restype = arguments, result
    return function


malloc = declare("Malloc", ctypes.c_void_p, ctypes.c_size_t)
realloc = declare("Realloc", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
free = declare("Free", None, ctypes.c_void_p)


def full_page(addresses):
    """Those that fill a page with 21 slots of 3,072 bytes."""
    pages = defaultdict(list)
    for address in addresses:
        pages[address >> 16].append(address)
    return next(page for page in pages.values() if len(page) == 21)


def block():
    return full_page([malloc(3000) for _ in range(100)])[10]


def in_thread(call, *arguments):
    thread = threading.Thread(target=call, args=arguments)
    thread.start()
    thread.join()


def wrong(address):
    print(f"ADDRESS={address:#x}", flush=True)
    return address
