/* SPDX-License-Identifier: MIT */
/* An alignment that is not a power of two.
 *
 * prints: invalid layout: no size class serves this size and alignment
 * exits: 2 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    void *object = slabmalloc_zone_allocate(zone, SIZE, 24);
    bool is_invalid = slabmalloc_zone_class_of(zone, SIZE, 24) < 0;
    return told(zone, object == NULL && is_invalid ? SLABMALLOC_INVALID_LAYOUT : SLABMALLOC_OK);
}
