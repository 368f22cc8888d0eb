/* SPDX-License-Identifier: MIT */
/* What is left of a page, where no slot is.
 *
 * stops: invalid free of ADDRESS (malloc): behind the last slot of a 3072-byte slab; the
 *        slab is current, 9 of 21 slots live */
#include "misuse.h"

int main(void)
{
    char *block = new_block(3000);
    char *page = (char *)((uintptr_t)block & ~(uintptr_t)0xFFFF);
    a_free(wrong(page + 0x10000 - 16));
    return NOT_STOPPED;
}
