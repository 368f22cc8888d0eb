/* SPDX-License-Identifier: MIT */
/* One that malloc never returns.
 *
 * stops: invalid free of ADDRESS (malloc): 1 bytes into slot SLOT of a 3072-byte slab, which is live; the
 *        slab is current, 9 of 21 slots live */
#include "misuse.h"

int main(void)
{
    char *block = new_block(3000);
    a_free(wrong(block + 1));
    return NOT_STOPPED;
}
