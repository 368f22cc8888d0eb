/* SPDX-License-Identifier: MIT */
/* An object of a page that has left the zone.
 *
 * prints: invalid free: the address is on no page of this zone
 * exits: 3 */
#include "misuse.h"

static void take_back(void *context, void *memory, size_t page_bytes)
{
    (void)context;
    (void)memory;
    (void)page_bytes;
}

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    char *object = slabmalloc_zone_allocate(zone, SIZE, 8);
    if (slabmalloc_zone_deallocate(zone, object, SIZE, 8) != SLABMALLOC_OK ||
        slabmalloc_zone_reclaim(zone, -1, sizeof page, 1, take_back, NULL) != 1)
        return HARMED;
    return told(zone, slabmalloc_zone_deallocate(zone, object, SIZE, 8));
}
