/* SPDX-License-Identifier: MIT */
/* The same, after it went back.
 *
 * stops: invalid realloc of ADDRESS (malloc): a large block of 1048576 bytes is already free, and back at the system */
#include "misuse.h"

int main(void)
{
    char *block = new_block(MIB);
    a_free(block);
    malloc_trim(0);
    block = a_realloc(wrong(block), 2 * MIB);
    return NOT_STOPPED;
}
