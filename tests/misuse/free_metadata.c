/* SPDX-License-Identifier: MIT */
/* An address in the page's meta-data. */
#include "misuse.h"

int main(void)
{
    slabmalloc_zone *zone = zone_with_page();
    return told(zone, slabmalloc_zone_deallocate(zone, page + sizeof page - 32, SIZE, 8));
}
