# SPDX-License-Identifier: MIT
"""What can go wrong, one class per thing that the caller did (floor 5).

The native allocators and their executable specification (`slabmalloc.reference`) raise these very classes, so one
``except`` serves both. Each is also the built-in exception that a reader would guess. Whoever catches one may go on:
an operation that raises has changed nothing.
"""

__all__ = ["AllocationError", "DoubleFree", "InvalidFree", "InvalidLayout", "InvalidPage", "OutOfMemory"]


class AllocationError(Exception):
    """Any refusal of an allocator; every class below is one."""


class OutOfMemory(AllocationError, MemoryError):
    """No slot is free and no page can be had: refill the allocator, or free something.

    >>> from slabmalloc.reference import Layout, SCAllocator
    >>> try:
    ...     SCAllocator(64).allocate(Layout.from_size_align(64, 8))
    ... except MemoryError as error:
    ...     print(type(error).__name__)
    OutOfMemory
    """


class InvalidLayout(AllocationError, ValueError):
    """Size or alignment is impossible, or nothing here serves it.

    >>> from slabmalloc.reference import Layout
    >>> Layout.from_size_align(10, 3)
    Traceback (most recent call last):
        ...
    slabmalloc.errors.InvalidLayout: alignment 3 is not a power of two
    """


class InvalidFree(AllocationError, ValueError):
    """The address is not one that this allocator handed out for this layout."""


class DoubleFree(InvalidFree):
    """The address was handed out once, but is free already."""


class InvalidPage(AllocationError, ValueError):
    """The memory can't be a page, or the page can't be taken: misaligned, too small, read-only, in use, torn."""
