/* SPDX-License-Identifier: MIT */
/* A block is said to be smaller than it can have been: of a base class, say, where a derived one was made.
 *
 * stops: invalid free_sized(1000) of ADDRESS (malloc): slot SLOT of a 3072-byte slab is live; the
 *        slab is current, 9 of 21 slots live */
#include "misuse.h"

int main(void)
{
    void (*sized)(void *, size_t) = function("free_sized"); /* C23 */
    char *block = new_block(3000);
    sized(wrong(block), 1000);
    return NOT_STOPPED;
}
