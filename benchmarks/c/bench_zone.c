/* SPDX-License-Identifier: MIT
 *
 * Our side through a zone, by layout: the size of each object is known at its free, as in Python's and the seed's API.
 * Default classes; `pages=N` puts all of them on pages of N bytes, `apart=1` their bitmaps beside the pages, `random=1`
 * starts each slab at a random slot. Built twice, as bench_sc.c is.
 */
#include "workloads.h"

#include <slabmalloc.h>

static slabmalloc_zone *zone;

static void side_begin(size_t size)
{
    (void)size;
    slabmalloc_pager pager = slabmalloc_pager_system();
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.pager = &pager;
    options.metadata_apart = option("apart", 0) != 0;
    options.random_start = option("random", 0) != 0;
    options.seed = 1;
    long page_bytes = option("pages", 0);
    if (page_bytes != 0) {
        options.classes.base_page_bytes = options.classes.large_page_bytes = (uint32_t)page_bytes;
        while (options.classes.sizes[options.classes.count - 1] > (uint32_t)page_bytes / 8)
            options.classes.count--;
    }
    zone = slabmalloc_zone_create(&options);
    if (zone == NULL)
        fail("no zone");
}

/* Of every layout. Since all default classes but the first are multiples of 16, objects are aligned as malloc's are. */
enum { ALIGN = 8 };

static inline void *side_allocate(size_t size) { return slabmalloc_zone_allocate(zone, size, ALIGN); }

static inline bool side_deallocate(void *object, size_t size)
{
#ifdef BENCH_OWNED
    return slabmalloc_zone_deallocate_owned(zone, object, size, ALIGN) == SLABMALLOC_OK;
#else
    return slabmalloc_zone_deallocate(zone, object, size, ALIGN) == SLABMALLOC_OK;
#endif
}

static size_t side_usable_bytes(void *object, size_t size)
{
    (void)object;
    int class_index = slabmalloc_zone_class_of(zone, size, ALIGN);
    return slabmalloc_zone_classes(zone)->sizes[class_index];
}

static void side_print_memory(void)
{
    slabmalloc_class_stats stats = slabmalloc_zone_stats(zone, -1);
    printf(", \"live_bytes\": %zu, \"free_bytes\": %zu, \"metadata_bytes\": %zu, \"tail_bytes\": %zu, \"empty_bytes\": "
           "%zu, "
           "\"mapped_bytes\": %zu, \"bookkeeping_bytes\": %zu",
           stats.live_bytes, stats.free_bytes, stats.metadata_bytes, stats.tail_bytes, stats.empty_bytes,
           stats.mapped_bytes, slabmalloc_zone_bookkeeping_bytes(zone));
}

static void side_print_identity(void) { printf("\"slabmalloc\""); }
