/* SPDX-License-Identifier: MIT */
/* No page at all.
 *
 * prints: invalid page: the address is not aligned to the page's size
 * exits: 7 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_empty();
    return told(zone, slabmalloc_zone_refill(zone, SIZE, 8, NULL, sizeof page));
}
