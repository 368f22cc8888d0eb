/* SPDX-License-Identifier: MIT */
/* An address on no page of the zone.
 *
 * prints: invalid free: the address is on no page of this zone
 * exits: 3 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    int local = 0;
    return told(zone, slabmalloc_zone_deallocate(zone, &local, SIZE, 8));
}
