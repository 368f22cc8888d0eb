/* SPDX-License-Identifier: MIT
 *
 * What a zone holds, floor 2: every byte of every page is live, free, meta-data, tail or empty, by walking the slabs;
 * mapped comes from the count of pages taken and returned, so that the sum proves something.
 */
#include "base/check.h"
#include "zone/remote.h"
#include "zone/zone.h"

typedef struct counting {
    slabmalloc_sc *sc;
    slabmalloc_class_stats *stats;
} counting;

static void count_slab(void *context, slab *s)
{
    counting *c = context;
    const slab_geometry *g = &c->sc->geometry;
    slabmalloc_class_stats *stats = c->stats;
    uint32_t live = sc_live(c->sc, s);
    if (live == 0) {
        stats->empty_pages++;
        stats->empty_bytes += g->page_bytes;
        return;
    }
    if (live == g->capacity)
        stats->full_pages++;
    else
        stats->partial_pages++;
    stats->live_objects += live;
    stats->live_bytes += (size_t)live * g->object_bytes;
    stats->free_bytes += (size_t)(g->capacity - live) * g->object_bytes;
    stats->metadata_bytes += g->metadata_bytes;
    stats->tail_bytes += g->page_bytes - g->metadata_bytes - (size_t)g->capacity * g->object_bytes;
}

static slabmalloc_class_stats class_stats(slabmalloc_sc *sc)
{
    remote_collect(sc);
    const slab_geometry *g = &sc->geometry;
    slabmalloc_class_stats stats = {
        .object_bytes = g->object_bytes,
        .page_bytes = g->page_bytes,
        .capacity = g->capacity,
        .mapped_bytes = (size_t)(sc->pages_taken - sc->pages_returned) * g->page_bytes,
        .remote_frees = atomic_load_explicit(&sc->remote_frees, memory_order_relaxed),
        .late_double_frees = sc->late_double_frees,
        .pages_taken = sc->pages_taken,
        .pages_returned = sc->pages_returned,
    };
    counting c = {.sc = sc, .stats = &stats};
    sc_for_each(sc, count_slab, &c);
    ASSERT(stats.live_bytes + stats.free_bytes + stats.metadata_bytes + stats.tail_bytes + stats.empty_bytes ==
           stats.mapped_bytes);
    return stats;
}

static void add(slabmalloc_class_stats *sum, const slabmalloc_class_stats *stats)
{
    sum->empty_pages += stats->empty_pages;
    sum->partial_pages += stats->partial_pages;
    sum->full_pages += stats->full_pages;
    sum->live_objects += stats->live_objects;
    sum->live_bytes += stats->live_bytes;
    sum->free_bytes += stats->free_bytes;
    sum->metadata_bytes += stats->metadata_bytes;
    sum->tail_bytes += stats->tail_bytes;
    sum->empty_bytes += stats->empty_bytes;
    sum->mapped_bytes += stats->mapped_bytes;
    sum->remote_frees += stats->remote_frees;
    sum->late_double_frees += stats->late_double_frees;
    sum->pages_taken += stats->pages_taken;
    sum->pages_returned += stats->pages_returned;
}

slabmalloc_class_stats slabmalloc_zone_stats(slabmalloc_zone *zone, int class_index)
{
    slabmalloc_class_stats sum = {.object_bytes = 0};
    slabmalloc_sc *only = slabmalloc_zone_sc(zone, class_index);
    if (class_index >= 0)
        return only != NULL ? class_stats(only) : sum;
    for (uint32_t i = 0; i < zone_sc_count(zone); i++) {
        slabmalloc_class_stats stats = class_stats(&zone->sc[i]);
        add(&sum, &stats);
    }
    return sum;
}

size_t slabmalloc_zone_bookkeeping_bytes(const slabmalloc_zone *zone) { return store_bytes(&zone->store); }

const char *slabmalloc_status_text(slabmalloc_status status)
{
    switch (status) {
    case SLABMALLOC_OK: return "no error";
    case SLABMALLOC_OUT_OF_MEMORY: return "out of memory: no free slot and no page";
    case SLABMALLOC_INVALID_LAYOUT: return "invalid layout: no size class serves this size and alignment";
    case SLABMALLOC_FREE_FOREIGN: return "invalid free: the address is on no page of this zone";
    case SLABMALLOC_FREE_OVERFLOWN: return "buffer overflow: the memory behind the object was written to";
    case SLABMALLOC_FREE_WRONG_CLASS: return "invalid free: the address belongs to another size class";
    case SLABMALLOC_FREE_INTERIOR: return "invalid free: no object begins at this address";
    case SLABMALLOC_FREE_DOUBLE: return "double free: the object is free already";
    case SLABMALLOC_PAGE_MISALIGNED: return "invalid page: the address is not aligned to the page's size";
    case SLABMALLOC_PAGE_SIZE: return "invalid page: its size is not the one that this class takes";
    case SLABMALLOC_PAGE_IN_USE: return "invalid page: its memory is in use by a zone";
    case SLABMALLOC_PAGE_UNREADABLE: return "invalid page: it carries no slab, or a torn one";
    case SLABMALLOC_PAGE_CLASS: return "invalid page: its slab is of no size class of this zone";
    }
    return "unknown status";
}
