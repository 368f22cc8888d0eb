/* SPDX-License-Identifier: MIT */
/* A block of posix_memalign, twice.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 0 of 21 slots live */
#include "misuse.h"

int main(void)
{
    void *block;
    REQUIRE(posix_memalign(&block, 1024, 3000) == 0);
    a_free(block);
    a_free(wrong(block));
    return NOT_STOPPED;
}
