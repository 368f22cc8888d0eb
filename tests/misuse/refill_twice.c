/* SPDX-License-Identifier: MIT */
/* A page that the zone has already. */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    return told(zone, slabmalloc_zone_refill(zone, SIZE, 8, page, sizeof page));
}
