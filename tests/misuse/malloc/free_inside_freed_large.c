/* SPDX-License-Identifier: MIT */
/* An address inside a large block that was freed.
 *
 * stops: invalid free of ADDRESS (malloc): 4096 bytes into a large block of 1048576 bytes, which is already free */
#include "misuse.h"

int main(void)
{
    char *block = new_block(MIB);
    a_free(block);
    a_free(wrong(block + 4096));
    return NOT_STOPPED;
}
