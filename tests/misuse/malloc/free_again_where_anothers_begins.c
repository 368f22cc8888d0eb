/* SPDX-License-Identifier: MIT */
/* A block that lay alone in its class, and where a block of another begins by now: the second free is taken for that
 * one's, and its own stops.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 30720-byte slab is already free; the
 *        slab is current, 8 of 34 slots live */
#include "misuse.h"

int main(void)
{
    char *block = a_malloc(20000);
    a_free(block);
    new_block(30000);
    a_free(wrong(block)); /* accepted; hardened mode stops here */
    a_free(nine[0]);
    return NOT_STOPPED;
}
