/* SPDX-License-Identifier: MIT */
/* A page whose trailer has been damaged. */
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
