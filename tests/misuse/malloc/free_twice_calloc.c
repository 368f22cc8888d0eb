/* SPDX-License-Identifier: MIT */
/* A block of calloc, twice.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 0 of 21 slots live */
#include "misuse.h"

int main(void)
{
    void *(*volatile a_calloc)(size_t, size_t) = calloc;
    char *block = a_calloc(3, 1000);
    a_free(block);
    a_free(wrong(block));
    return NOT_STOPPED;
}
