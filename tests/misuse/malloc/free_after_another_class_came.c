/* SPDX-License-Identifier: MIT */
/* A block whose page serves another size class now.
 *
 * stops: invalid free of ADDRESS (malloc): 2048 bytes into slot SLOT of a 5120-byte slab, which is live; the
 *        slab is current, 9 of 12 slots live */
#include "misuse.h"

int main(void)
{
    char *blocks[64]; /* three full slabs: of empty ones that are not current a heap keeps one */
    for (int i = 0; i < 64; i++)
        blocks[i] = a_malloc(3000);
    for (int i = 0; i < 64; i++)
        a_free(blocks[i]);
    new_block(5000);
    char *page = (char *)((uintptr_t)blocks[25] & ~(uintptr_t)0xFFFF);
    a_free(wrong(page + 4 * 3072)); /* which is 2 x 5,120 + 2,048 */
    return NOT_STOPPED;
}
