/* SPDX-License-Identifier: MIT */
/* A block of a thread that has ended, twice.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 8 of 21 slots live */
#include "misuse.h"

static void *make_it(void *context)
{
    (void)context;
    return new_block(3000);
}

int main(void)
{
    char *block = in_thread(make_it, NULL);
    a_free(block);
    a_free(wrong(block));
    return NOT_STOPPED;
}
