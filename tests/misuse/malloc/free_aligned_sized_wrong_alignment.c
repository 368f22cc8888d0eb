/* SPDX-License-Identifier: MIT */
/* A block is said to be aligned as its address is not.
 *
 * stops: invalid free_aligned_sized(4096, 3000) of ADDRESS (malloc): slot SLOT of a 3072-byte slab is live; the
 *        slab is current, 9 of 21 slots live */
#include "misuse.h"

int main(void)
{
    void (*sized)(void *, size_t, size_t) = function("free_aligned_sized"); /* C23 */
    char *block = new_block(3000);
    while ((uintptr_t)block % 4096 == 0)
        block += 3072;
    sized(wrong(block), 4096, 3000);
    return NOT_STOPPED;
}
