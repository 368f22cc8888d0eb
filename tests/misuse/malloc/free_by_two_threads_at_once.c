/* SPDX-License-Identifier: MIT */
/* Freed by two other threads at the same moment: one atomic operation tells which came second, and it stops.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 8 of 21 slots live */
#include "misuse.h"

static pthread_barrier_t start;

static void *free_at_once(void *block)
{
    pthread_barrier_wait(&start);
    return free_it(block);
}

int main(void)
{
    char *block = new_block(3000);
    pthread_t threads[2];
    REQUIRE(pthread_barrier_init(&start, NULL, 2) == 0);
    wrong(block);
    for (int i = 0; i < 2; i++)
        REQUIRE(pthread_create(&threads[i], NULL, free_at_once, block) == 0);
    for (int i = 0; i < 2; i++)
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    return NOT_STOPPED;
}
