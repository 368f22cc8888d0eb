/* SPDX-License-Identifier: MIT */
/* A slab of a size that is no class of the new zone.
 *
 * prints: invalid page: its slab is of no size class of this zone
 * exits: 11 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_empty();
    if (slabmalloc_zone_refill(zone, 48, 8, page, sizeof page) != SLABMALLOC_OK ||
        slabmalloc_zone_allocate(zone, 48, 8) == NULL)
        return HARMED;
    slabmalloc_zone_detach(zone, NULL, NULL);
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.classes = slabmalloc_size_classes_powers_of_two();
    zone = slabmalloc_zone_create(&options);
    return told(zone, slabmalloc_zone_restore(zone, page, sizeof page));
}
