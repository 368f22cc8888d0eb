/* SPDX-License-Identifier: MIT */
/* An address inside an object.
 *
 * prints: invalid free: no object begins at this address
 * exits: 5 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    char *object = slabmalloc_zone_allocate(zone, SIZE, 8);
    return told(zone, slabmalloc_zone_deallocate(zone, object + 8, SIZE, 8));
}
