/* SPDX-License-Identifier: MIT */
/* The classic.
 *
 * prints: double free: the object is free already
 * exits: 6 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    char *object = slabmalloc_zone_allocate(zone, SIZE, 8);
    if (slabmalloc_zone_deallocate(zone, object, SIZE, 8) != SLABMALLOC_OK)
        return HARMED;
    return told(zone, slabmalloc_zone_deallocate(zone, object, SIZE, 8));
}
