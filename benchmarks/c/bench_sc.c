/* SPDX-License-Identifier: MIT
 *
 * Our side, as the seed measures itself: one size-class allocator for a client that knows its class. A zone of one
 * class on pages of `pages` bytes (4 KiB unless told). Built twice: BENCH_OWNED frees as the owner, which the caller
 * vouches for; without it each free finds out who calls.
 */
#include "workloads.h"

#include <slabmalloc.h>

static slabmalloc_zone *zone;
static slabmalloc_sc *sc;

static void side_begin(size_t size)
{
    slabmalloc_pager pager = slabmalloc_pager_system();
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.pager = &pager;
    options.metadata_apart = option("apart", 0) != 0;
    options.classes.count = 1;
    options.classes.sizes[0] =
        (uint32_t)((size + SLABMALLOC_GRANULE_BYTES - 1) & ~(size_t)(SLABMALLOC_GRANULE_BYTES - 1));
    options.classes.max_base_bytes = options.classes.sizes[0];
    options.classes.base_page_bytes = (uint32_t)option("pages", (long)SLABMALLOC_OBJECT_PAGE_BYTES);
    zone = slabmalloc_zone_create(&options);
    if (zone == NULL)
        fail("no zone");
    sc = slabmalloc_zone_sc(zone, 0);
}

static inline void *side_allocate(size_t size)
{
    (void)size;
    return slabmalloc_sc_allocate(sc);
}

static inline bool side_deallocate(void *object, size_t size)
{
    (void)size;
#ifdef BENCH_OWNED
    return slabmalloc_sc_deallocate_owned(sc, object) == SLABMALLOC_OK;
#else
    return slabmalloc_sc_deallocate(sc, object) == SLABMALLOC_OK;
#endif
}

static size_t side_usable_bytes(void *object, size_t size)
{
    (void)size;
    return slabmalloc_zone_inspect(zone, object).object_bytes;
}

static void side_print_memory(void) {}

static void side_print_identity(void) { printf("\"slabmalloc\""); }
