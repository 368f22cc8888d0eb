# SPDX-License-Identifier: MIT
"""What the programs on the Python API share: a zone to misuse.

A program tells the addresses that the message will name, then what was raised; and the zone must be unharmed.
"""

import mmap

import slabmalloc as api
from slabmalloc.pages import LargeObjectPage, ObjectPage, address_of

__all__ = ["LargeObjectPage", "ObjectPage", "Zone", "api", "new_page", "tell"]


def new_page(page_type=ObjectPage):
    memory = mmap.mmap(-1, 2 * page_type.SIZE)
    return page_type(memory, -address_of(memory) % page_type.SIZE)


def tell(**addresses):
    for name, address in addresses.items():
        print(f"{name}={address:#x}")


class Zone(api.ZoneAllocator):
    """One page with three objects of 64 bytes, and a fourth slot that was used and is free."""

    def __init__(self):
        super().__init__()
        self.layout = api.Layout.from_size_align(64, 8)
        self.page = new_page()
        self.refill(self.layout, self.page)
        self.objects = [self.allocate(self.layout) for _ in range(4)]
        self.freed = self.objects.pop()
        self.deallocate(self.freed, self.layout)

    def refuses(self, call, *arguments):
        """Prints what the call raises; nothing else may happen: every byte is where it was, and the zone goes on."""
        lowest = self.allocate(self.layout)
        self.deallocate(lowest, self.layout)
        before = self.stats()
        try:
            call(*arguments)
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
        else:
            print("nothing was raised")
        self.audit()
        assert self.stats() == before
        assert self.stats().conserved
        assert self.allocate(self.layout) == lowest
        self.deallocate(lowest, self.layout)
