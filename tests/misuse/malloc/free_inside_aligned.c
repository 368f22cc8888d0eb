/* SPDX-License-Identifier: MIT */
/* The address from which a program aligned a block by hand, not the block's.
 *
 * stops: invalid free of ADDRESS (malloc): 40 bytes into slot SLOT of a 3072-byte slab, which is live; the
 *        slab is current, 9 of 21 slots live */
#include "misuse.h"

int main(void)
{
    char *block = new_block(3000);
    a_free(wrong(block + 40));
    return NOT_STOPPED;
}
