/* SPDX-License-Identifier: MIT
 *
 * What the programs here share: one zone with one page, and `told`, which prints what the library says, checks that the
 * zone is unharmed, and makes the status the exit code. run.py knows what each program must print.
 */
#ifndef MISUSE_H
#define MISUSE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slabmalloc.h"

enum { SIZE = 64, HARMED = 99 };

static _Alignas(4096) char page[4096];

static inline slabmalloc_zone *zone_empty(void)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    slabmalloc_zone *zone = slabmalloc_zone_create(&options);
    if (zone == NULL)
        exit(HARMED);
    return zone;
}

/* A zone whose class of SIZE bytes has `page`. */
static inline slabmalloc_zone *zone_with_page(void)
{
    slabmalloc_zone *zone = zone_empty();
    if (slabmalloc_zone_refill(zone, SIZE, 8, page, sizeof page) != SLABMALLOC_OK)
        exit(HARMED);
    return zone;
}

static inline int told(slabmalloc_zone *zone, slabmalloc_status status)
{
    puts(slabmalloc_status_text(status));
    const char *fault = slabmalloc_zone_audit(zone);
    if (fault != NULL) {
        puts(fault);
        return HARMED;
    }
    slabmalloc_zone_destroy(zone);
    return (int)status;
}

#endif
