/* SPDX-License-Identifier: MIT */
/* A large block is said to be smaller than it can have been.
 *
 * stops: invalid free_sized(500000) of ADDRESS (malloc): a large block of 1048576 bytes is live */
#include "misuse.h"

int main(void)
{
    void (*sized)(void *, size_t) = function("free_sized"); /* C23 */
    char *block = new_block(MIB);
    sized(wrong(block), 500000);
    return NOT_STOPPED;
}
