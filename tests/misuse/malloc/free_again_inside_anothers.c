/* SPDX-License-Identifier: MIT */
/* A block that lay alone in its class: its page serves another class by now, and no slot of that begins there.
 *
 * stops: invalid free of ADDRESS (malloc): 20480 bytes into slot SLOT of a 30720-byte slab, which is live; the
 *        slab is current, 9 of 34 slots live */
#include "misuse.h"

int main(void)
{
    char *first = a_malloc(20000), *block = a_malloc(20000);
    a_free(first);
    a_free(block);
    new_block(30000);
    a_free(wrong(block));
    return NOT_STOPPED;
}
