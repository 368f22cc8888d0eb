/* SPDX-License-Identifier: MIT */
/* The address that a block had before realloc moved it is to grow once more.
 *
 * stops: invalid realloc of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 8 of 21 slots live */
#include "misuse.h"

int main(void)
{
    char *block = new_block(3000);
    char *moved = a_realloc(block, 9000);
    REQUIRE(moved != NULL && moved != block);
    block = a_realloc(wrong(block), 9000);
    return NOT_STOPPED;
}
