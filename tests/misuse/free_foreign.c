/* SPDX-License-Identifier: MIT */
/* An address on no page of the zone. */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    int local = 0;
    return told(zone, slabmalloc_zone_deallocate(zone, &local, SIZE, 8));
}
