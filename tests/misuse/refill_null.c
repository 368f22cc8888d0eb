/* SPDX-License-Identifier: MIT */
/* No page at all. */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_empty();
    return told(zone, slabmalloc_zone_refill(zone, SIZE, 8, NULL, sizeof page));
}
