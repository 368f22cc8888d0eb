/* SPDX-License-Identifier: MIT */
/* A page that is not aligned to its size. */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_empty();
    return told(zone, slabmalloc_zone_refill(zone, SIZE, 8, page + 64, sizeof page));
}
