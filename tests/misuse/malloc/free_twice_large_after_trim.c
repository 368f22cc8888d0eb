/* SPDX-License-Identifier: MIT */
/* A block with a mapping of its own, again after it went back.
 *
 * stops: double free of ADDRESS (malloc): a large block of 1048576 bytes is already free, and back at the system */
#include "misuse.h"

int main(void)
{
    char *block = new_block(MIB);
    a_free(block);
    malloc_trim(0);
    a_free(wrong(block));
    return NOT_STOPPED;
}
