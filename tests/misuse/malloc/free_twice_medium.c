/* SPDX-License-Identifier: MIT */
/* A block on a page of 1 MiB, twice.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 20480-byte slab is already free; the
 *        slab is current, 8 of 51 slots live */
#include "misuse.h"

int main(void)
{
    char *block = new_block(20000);
    a_free(block);
    a_free(wrong(block));
    return NOT_STOPPED;
}
