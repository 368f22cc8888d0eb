/* SPDX-License-Identifier: MIT */
/* A page that carries no slab. */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_empty();
    return told(zone, slabmalloc_zone_restore(zone, page, sizeof page));
}
