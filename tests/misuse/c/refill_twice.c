/* SPDX-License-Identifier: MIT */
/* A page that the zone has already.
 *
 * prints: invalid page: its memory is in use by a zone
 * exits: 9 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    return told(zone, slabmalloc_zone_refill(zone, SIZE, 8, page, sizeof page));
}
