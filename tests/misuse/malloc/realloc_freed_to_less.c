/* SPDX-License-Identifier: MIT */
/* A block that was freed is to shrink, within its slot.
 *
 * stops: invalid realloc of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 8 of 21 slots live */
#include "misuse.h"

int main(void)
{
    char *block = new_block(3000);
    a_free(block);
    block = a_realloc(wrong(block), 2900);
    return NOT_STOPPED;
}
