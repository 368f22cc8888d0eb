/* SPDX-License-Identifier: MIT */
/* An object of another zone.
 *
 * prints: invalid free: the address is on no page of this zone
 * exits: 3 */
#include "misuse.h"

static _Alignas(4096) char other_page[4096];

int main(void)
{
    slabmalloc_zone *zone = zone_with_page(), *other = zone_empty();
    if (slabmalloc_zone_refill(other, SIZE, 8, other_page, sizeof other_page) != SLABMALLOC_OK)
        return HARMED;
    void *object = slabmalloc_zone_allocate(other, SIZE, 8);
    return told(zone, slabmalloc_zone_deallocate(zone, object, SIZE, 8));
}
