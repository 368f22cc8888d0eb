/* SPDX-License-Identifier: MIT */
/* The size of what begins inside a block.
 *
 * stops: invalid malloc_usable_size of ADDRESS (malloc): 16 bytes into slot SLOT of a 3072-byte slab, which is live;
 *        the slab is current, 9 of 21 slots live */
#include "misuse.h"

int main(void)
{
    size_t (*volatile a_usable)(void *) = malloc_usable_size;
    char *block = new_block(3000);
    a_usable(wrong(block + 16));
    return NOT_STOPPED;
}
