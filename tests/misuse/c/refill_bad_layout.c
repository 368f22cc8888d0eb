/* SPDX-License-Identifier: MIT */
/* A page for a layout that no class serves.
 *
 * prints: invalid layout: no size class serves this size and alignment
 * exits: 2 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_empty();
    return told(zone, slabmalloc_zone_refill(zone, 0, 8, page, sizeof page));
}
