/* SPDX-License-Identifier: MIT */
/* A slot that nobody has had yet.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 9 of 21 slots live */
#include "misuse.h"

enum { SLAB_BYTES = 64 * 1024, SLOT_BYTES = 3072 };

static bool is_one_of_nine(const char *slot)
{
    for (int i = 0; i < BLOCKS; i++)
        if (nine[i] == slot)
            return true;
    return false;
}

int main(void)
{
    char *slot = new_block(3000), *slab = (char *)((uintptr_t)slot & ~(uintptr_t)(SLAB_BYTES - 1));
    while (is_one_of_nine(slot)) /* where slots are random some of the next are */
        slot = slab + (slot - slab + SLOT_BYTES) % (SLAB_BYTES - SLAB_BYTES % SLOT_BYTES);
    a_free(wrong(slot));
    return NOT_STOPPED;
}
