/* SPDX-License-Identifier: MIT */
/* A slot that nobody has had yet.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 9 of 21 slots live */
#include "misuse.h"

int main(void)
{
    char *block = new_block(3000);
    a_free(wrong(block + 10 * 3072));
    return NOT_STOPPED;
}
