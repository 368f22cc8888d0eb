/* SPDX-License-Identifier: MIT */
/* The classic.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 8 of 21 slots live */
#include "misuse.h"

int main(void)
{
    char *block = new_block(3000);
    a_free(block);
    a_free(wrong(block));
    return NOT_STOPPED;
}
