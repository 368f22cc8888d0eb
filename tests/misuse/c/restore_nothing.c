/* SPDX-License-Identifier: MIT */
/* A page that carries no slab.
 *
 * prints: invalid page: it carries no slab, or a torn one
 * exits: 10 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_empty();
    return told(zone, slabmalloc_zone_restore(zone, page, sizeof page));
}
