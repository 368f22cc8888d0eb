/* SPDX-License-Identifier: MIT */
/* An address inside a block on a page of 1 MiB.
 *
 * stops: invalid free of ADDRESS (malloc): 4096 bytes into slot SLOT of a 20480-byte slab, which is live; the
 *        slab is current, 9 of 51 slots live */
#include "misuse.h"

int main(void)
{
    char *block = new_block(20000);
    a_free(wrong(block + 4096));
    return NOT_STOPPED;
}
