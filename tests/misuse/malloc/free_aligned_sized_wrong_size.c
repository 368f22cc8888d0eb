/* SPDX-License-Identifier: MIT */
/* An aligned block is said to have another size.
 *
 * stops: invalid free_aligned_sized(1024, 5000) of ADDRESS (malloc): slot SLOT of a 3072-byte slab is live; the
 *        slab is current, 1 of 21 slots live */
#include "misuse.h"

int main(void)
{
    void (*sized)(void *, size_t, size_t) = function("free_aligned_sized"); /* C23 */
    void *block = aligned_alloc(1024, 3000);
    REQUIRE(block != NULL);
    sized(wrong(block), 1024, 5000);
    return NOT_STOPPED;
}
