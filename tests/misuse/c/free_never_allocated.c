/* SPDX-License-Identifier: MIT */
/* A slot that nobody has.
 *
 * prints: double free: the object is free already
 * exits: 6 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    char *object = slabmalloc_zone_allocate(zone, SIZE, 8);
    return told(zone, slabmalloc_zone_deallocate(zone, object + SIZE, SIZE, 8));
}
