/* SPDX-License-Identifier: MIT */
/* A large block that was freed is to grow.
 *
 * stops: invalid realloc of ADDRESS (malloc): a large block of 1048576 bytes is already free */
#include "misuse.h"

int main(void)
{
    char *block = new_block(MIB);
    a_free(block);
    block = a_realloc(wrong(block), 2 * MIB);
    return NOT_STOPPED;
}
