/* SPDX-License-Identifier: MIT */
/* The address that a large block had before the kernel moved it.
 *
 * stops: invalid free of ADDRESS (malloc): a large block of 1048576 bytes is elsewhere since a realloc */
#include "misuse.h"

int main(void)
{
    char *block = new_block(MIB);
    /* Whatever is there already: it can't grow where it is. */
    mmap(block + MIB, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    char *moved = a_realloc(block, 64 * MIB);
    REQUIRE(moved != NULL && moved != block);
    a_free(wrong(block));
    return NOT_STOPPED;
}
