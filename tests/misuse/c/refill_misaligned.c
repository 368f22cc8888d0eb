/* SPDX-License-Identifier: MIT */
/* A page that is not aligned to its size.
 *
 * prints: invalid page: the address is not aligned to the page's size
 * exits: 7 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_empty();
    return told(zone, slabmalloc_zone_refill(zone, SIZE, 8, page + 64, sizeof page));
}
