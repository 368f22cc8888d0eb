/* SPDX-License-Identifier: MIT */
/* A layout of another class than the object's.
 *
 * prints: invalid free: the address belongs to another size class
 * exits: 4 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    char *object = slabmalloc_zone_allocate(zone, SIZE, 8);
    return told(zone, slabmalloc_zone_deallocate(zone, object, SIZE * 2, 8));
}
