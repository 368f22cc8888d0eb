/* SPDX-License-Identifier: MIT */
/* NULL is no object.
 *
 * prints: invalid free: the address is on no page of this zone
 * exits: 3 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    return told(zone, slabmalloc_zone_deallocate(zone, NULL, SIZE, 8));
}
