/* SPDX-License-Identifier: MIT */
/* An address that the heap has reserved, and not used yet.
 *
 * stops: invalid free of ADDRESS (malloc): in the heap's range, but on no slab */
#include "misuse.h"

int main(void)
{
    char *block = new_block(3000);
    a_free(wrong(block + ((size_t)1 << 31)));
    return NOT_STOPPED;
}
