/* SPDX-License-Identifier: MIT */
/* A page for a layout that no class serves. */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_empty();
    return told(zone, slabmalloc_zone_refill(zone, 0, 8, page, sizeof page));
}
