/* SPDX-License-Identifier: MIT */
/* A block whose slab has become a page of the arena again.
 *
 * stops: invalid free of ADDRESS (malloc): on a page that has no slab now: it went back */
#include "misuse.h"

int main(void)
{
    char *blocks[64]; /* three full slabs: of empty ones that are not current a heap keeps one */
    for (int i = 0; i < 64; i++)
        blocks[i] = a_malloc(3000);
    for (int i = 0; i < 64; i++)
        a_free(blocks[i]);
    a_free(wrong(blocks[25]));
    return NOT_STOPPED;
}
