/* SPDX-License-Identifier: MIT */
/* An address inside a block with a mapping of its own.
 *
 * stops: invalid free of ADDRESS (malloc): 16 bytes into a large block of 1048576 bytes, which is live */
#include "misuse.h"

int main(void)
{
    char *block = new_block(MIB);
    a_free(wrong(block + 16));
    return NOT_STOPPED;
}
