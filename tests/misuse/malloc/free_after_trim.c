/* SPDX-License-Identifier: MIT */
/* The same, and the page's memory went back too.
 *
 * stops: invalid free of ADDRESS (malloc): on a page that has no slab now, and no memory */
#include "misuse.h"

int main(void)
{
    char *blocks[64]; /* three full slabs: of empty ones that are not current a heap keeps one */
    for (int i = 0; i < 64; i++)
        blocks[i] = a_malloc(3000);
    for (int i = 0; i < 64; i++)
        a_free(blocks[i]);
    malloc_trim(0);
    a_free(wrong(blocks[25]));
    return NOT_STOPPED;
}
