/* SPDX-License-Identifier: MIT */
/* An address in the page's meta-data.
 *
 * prints: invalid free: no object begins at this address
 * exits: 5 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    return told(zone, slabmalloc_zone_deallocate(zone, page + sizeof page - 32, SIZE, 8));
}
