/* SPDX-License-Identifier: MIT */
/* Frees of other blocks come between the two.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 16 of 21 slots live */
#include "misuse.h"

int main(void)
{
    char *block = new_block(3000), *other = new_block(3000), *third = new_block(500);
    a_free(block);
    a_free(other);
    a_free(third);
    a_free(wrong(block));
    return NOT_STOPPED;
}
