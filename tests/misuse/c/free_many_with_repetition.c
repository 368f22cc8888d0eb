/* SPDX-License-Identifier: MIT */
/* An address that stands twice in one call.
 *
 * prints: double free: the object is free already
 * exits: 6 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    char *object = slabmalloc_zone_allocate(zone, SIZE, 8);
    void *objects[] = {object, slabmalloc_zone_allocate(zone, SIZE, 8), object};
    size_t bad = 0;
    slabmalloc_status status = slabmalloc_zone_deallocate_many(zone, objects, 3, SIZE, 8, &bad);
    bool is_unchanged = slabmalloc_zone_stats(zone, -1).live_objects == 2;
    return bad == 2 && is_unchanged ? told(zone, status) : HARMED;
}
