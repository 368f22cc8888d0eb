/* SPDX-License-Identifier: MIT */
/* A block of a thread that ended, freed there; the thread that has its heap now frees it again.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 8 of 21 slots live */
#include "misuse.h"

static void *make_and_free(void *context)
{
    char *block = new_block(3000);
    (void)context;
    a_free(block);
    return block;
}

static void *free_too(void *block)
{
    REQUIRE(a_malloc(100) != NULL); /* by this it has the heap */
    return free_it(block);
}

int main(void)
{
    char *block = in_thread(make_and_free, NULL);
    in_thread(free_too, wrong(block));
    return NOT_STOPPED;
}
