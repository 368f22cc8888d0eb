/* SPDX-License-Identifier: MIT */
/* An object of C++, twice.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 0 of 21 slots live */
#include <new>

#include "misuse.h"

int main(void)
{
    void *object = ::operator new(3000);
    ::operator delete(object);
    ::operator delete(wrong(object));
    return NOT_STOPPED;
}
