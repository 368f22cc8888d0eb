/* SPDX-License-Identifier: MIT */
/* Freed by one other thread, then by a second.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 8 of 21 slots live */
#include "misuse.h"

int main(void)
{
    char *block = new_block(3000);
    in_thread(free_it, block);
    in_thread(free_it, wrong(block));
    return NOT_STOPPED;
}
