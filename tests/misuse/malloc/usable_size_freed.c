/* SPDX-License-Identifier: MIT */
/* The size of a block that was freed.
 *
 * stops: invalid malloc_usable_size of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 8 of 21 slots live */
#include "misuse.h"

int main(void)
{
    size_t (*volatile a_usable)(void *) = malloc_usable_size;
    char *block = new_block(3000);
    a_free(block);
    a_usable(wrong(block));
    return NOT_STOPPED;
}
