/* SPDX-License-Identifier: MIT */
/* A layout that no class serves.
 *
 * prints: invalid layout: no size class serves this size and alignment
 * exits: 2 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    char *object = slabmalloc_zone_allocate(zone, SIZE, 8);
    return told(zone, slabmalloc_zone_deallocate(zone, object, 0, 8));
}
