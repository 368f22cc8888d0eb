/* SPDX-License-Identifier: MIT */
/* Freed by another thread, not collected yet, and again by the owner.
 *
 * prints: double free: the object is free already
 * exits: 6 */
#include <pthread.h>

#include "misuse.h"

static slabmalloc_zone *zone;
static char *object;
static slabmalloc_status status;

static void *free_first(void *context)
{
    status = slabmalloc_zone_deallocate(zone, object, SIZE, 8);
    return context;
}

int main(void)
{
    zone = zone_with_page();
    object = slabmalloc_zone_allocate(zone, SIZE, 8);
    pthread_t thread;
    if (pthread_create(&thread, NULL, free_first, NULL) != 0 || pthread_join(thread, NULL) != 0 ||
        status != SLABMALLOC_OK)
        return HARMED;
    return told(zone, slabmalloc_zone_deallocate(zone, object, SIZE, 8));
}
