/* SPDX-License-Identifier: MIT */
/* The same, where an OS page begins.
 *
 * stops: invalid free of ADDRESS (malloc): 4096 bytes into a large block of 1048576 bytes, which is live */
#include "misuse.h"

int main(void)
{
    char *block = new_block(MIB);
    a_free(wrong(block + 4096));
    return NOT_STOPPED;
}
