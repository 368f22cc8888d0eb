/* SPDX-License-Identifier: MIT */
/* Freed by the owner, and again by another thread.
 *
 * prints: double free: the object is free already
 * exits: 6 */
#include <pthread.h>

#include "misuse.h"

static slabmalloc_zone *zone;
static char *object;
static slabmalloc_status status;

static void *free_again(void *context)
{
    status = slabmalloc_zone_deallocate(zone, object, SIZE, 8);
    return context;
}

int main(void)
{
    zone = zone_with_page();
    object = slabmalloc_zone_allocate(zone, SIZE, 8);
    pthread_t thread;
    if (slabmalloc_zone_deallocate(zone, object, SIZE, 8) != SLABMALLOC_OK ||
        pthread_create(&thread, NULL, free_again, NULL) != 0 || pthread_join(thread, NULL) != 0)
        return HARMED;
    return told(zone, status);
}
