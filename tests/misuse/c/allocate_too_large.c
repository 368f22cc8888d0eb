/* SPDX-License-Identifier: MIT */
/* An object above the largest class.
 *
 * prints: invalid layout: no size class serves this size and alignment
 * exits: 2 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    void *object = slabmalloc_zone_allocate(zone, SLABMALLOC_MAX_ALLOC_BYTES + 1, 8);
    bool is_invalid = slabmalloc_zone_class_of(zone, SLABMALLOC_MAX_ALLOC_BYTES + 1, 8) < 0;
    return told(zone, object == NULL && is_invalid ? SLABMALLOC_INVALID_LAYOUT : SLABMALLOC_OK);
}
