/* SPDX-License-Identifier: MIT */
/* An object page for a class that lives on large ones.
 *
 * prints: invalid page: its size is not the one that this class takes
 * exits: 8 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_empty();
    return told(zone, slabmalloc_zone_refill(zone, 1024, 8, page, sizeof page));
}
