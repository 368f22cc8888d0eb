/* SPDX-License-Identifier: MIT */
/* The size of a large block that was freed.
 *
 * stops: invalid malloc_usable_size of ADDRESS (malloc): a large block of 1048576 bytes is already free */
#include "misuse.h"

int main(void)
{
    size_t (*volatile a_usable)(void *) = malloc_usable_size;
    char *block = new_block(MIB);
    a_free(block);
    a_usable(wrong(block));
    return NOT_STOPPED;
}
