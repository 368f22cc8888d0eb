/* SPDX-License-Identifier: MIT */
/* With the right size, twice.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 8 of 21 slots live */
#include "misuse.h"

int main(void)
{
    void (*sized)(void *, size_t) = function("free_sized"); /* C23 */
    char *block = new_block(3000);
    sized(block, 3000);
    sized(wrong(block), 3000);
    return NOT_STOPPED;
}
