/* SPDX-License-Identifier: MIT */
/* An alignment that is not a power of two.
 *
 * prints: invalid layout: no size class serves this size and alignment
 * exits: 2 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    char *object = slabmalloc_zone_allocate(zone, SIZE, 8);
    return told(zone, slabmalloc_zone_deallocate(zone, object, SIZE, 12));
}
