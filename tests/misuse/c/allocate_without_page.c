/* SPDX-License-Identifier: MIT */
/* An allocation from a class that has no page, in a zone without a pager.
 *
 * prints: out of memory: no free slot and no page
 * exits: 1 */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_empty();
    void *object = slabmalloc_zone_allocate(zone, SIZE, 8);
    bool is_invalid = slabmalloc_zone_class_of(zone, SIZE, 8) < 0;
    return told(zone, object == NULL && !is_invalid ? SLABMALLOC_OUT_OF_MEMORY : SLABMALLOC_OK);
}
