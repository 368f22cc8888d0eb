/* SPDX-License-Identifier: MIT */
/* A page whose trailer has been damaged.
 *
 * prints: invalid page: it carries no slab, or a torn one
 * exits: 10 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    if (slabmalloc_zone_allocate(zone, SIZE, 8) == NULL)
        return HARMED;
    slabmalloc_zone_detach(zone, NULL, NULL);
    page[sizeof page - 20] ^= 1;
    zone = zone_empty();
    return told(zone, slabmalloc_zone_restore(zone, page, sizeof page));
}
