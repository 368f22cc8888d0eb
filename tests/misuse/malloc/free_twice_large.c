/* SPDX-License-Identifier: MIT */
/* A block with a mapping of its own, twice: it rests.
 *
 * stops: double free of ADDRESS (malloc): a large block of 1048576 bytes is already free */
#include "misuse.h"

int main(void)
{
    char *block = new_block(MIB);
    a_free(block);
    a_free(wrong(block));
    return NOT_STOPPED;
}
