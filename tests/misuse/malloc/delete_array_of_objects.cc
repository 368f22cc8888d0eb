/* SPDX-License-Identifier: MIT */
/* An array of objects with destructors, freed as one object: C++ keeps their number in front.
 *
 * stops: invalid free of ADDRESS (malloc): 8 bytes into slot SLOT of a 3072-byte slab, which is live; the
 *        slab is current, 1 of 21 slots live */
#include <new>

#include "misuse.h"

struct counted {
    char text[30];
    ~counted() { text[0] = 0; }
};

int main(void)
{
    counted *array = new counted[100];
    delete (counted *)(void *)wrong(array);
    return NOT_STOPPED;
}
