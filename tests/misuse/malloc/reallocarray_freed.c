/* SPDX-License-Identifier: MIT */
/* A block that was freed is to grow, by reallocarray.
 *
 * stops: invalid realloc of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 8 of 21 slots live */
#include "misuse.h"

int main(void)
{
    void *(*volatile a_reallocarray)(void *, size_t, size_t) = reallocarray;
    char *block = new_block(3000);
    a_free(block);
    block = a_reallocarray(wrong(block), 40, 100);
    return NOT_STOPPED;
}
