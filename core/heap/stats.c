/* SPDX-License-Identifier: MIT
 *
 * What a space holds, floor 3, counted from outside: by the table of pages and the bitmaps, whoever owns them. Bitmaps
 * are read as they are, so what other threads do meanwhile may be in the sum or not, and where pages go from class to
 * class one may be counted twice; of the caller's own heaps, and of all heaps when no other thread runs, it is exact.
 */
#include <string.h>

#include "heap/hardened.h"
#include "heap/heap.h"

static void count_slab(space_stats *stats, const slab *s)
{
    const slabmalloc_sc *sc = s->sc;
    const slab_geometry *g = &sc->geometry;
    uint32_t remote_count = bitset_count(&g->shape, slab_remote(s, g));
    size_t free_count = (size_t)bitset_count(&g->shape, s->local) + remote_count;
    uint32_t live = g->capacity - (uint32_t)min_size(free_count, g->capacity);
    stats->remote_frees += remote_count;
    stats->live_objects += live;
    if (heap_slab_is_nothing(s)) { /* its objects have no bytes */
        stats->tail_bytes += g->page_bytes;
        return;
    }
    space_class_stats *row = &stats->classes[sc->index];
    row->object_bytes = g->object_bytes;
    row->slabs++;
    row->pages_bytes += g->page_bytes;
    row->remote_frees += remote_count;
    row->live_objects += live;
    row->free_objects += g->capacity - live;
    stats->live_bytes += (size_t)live * g->object_bytes;
    stats->free_bytes += (size_t)(g->capacity - live) * g->object_bytes;
    stats->tail_bytes += g->page_bytes - (size_t)g->capacity * g->object_bytes;
}

static void count_range(space_stats *stats, const range *r)
{
    const arena *a = &r->arena;
    for (size_t unit = 0; unit < arena_fresh(a) * (size_t)ARENA_CHUNK_UNITS; unit++) {
        const slab *s = atomic_load_explicit(&r->slabs[unit], memory_order_acquire);
        if (s != NULL && slab_page(s) == a->base + unit * ARENA_UNIT_BYTES)
            count_slab(stats, s);
    }
    stats->mapped_bytes += (a->in_use_count + a->resting_count) * ARENA_UNIT_BYTES;
    stats->peak_mapped_bytes += a->peak_count * ARENA_UNIT_BYTES;
    stats->resting_bytes += a->resting_count * ARENA_UNIT_BYTES;
    stats->given_back_bytes += a->given_back_bytes;
    stats->reserved_bytes += (size_t)(a->chunk_count - a->lent_count) * ARENA_CHUNK_BYTES;
    stats->bookkeeping_bytes += a->tables_bytes + r->tables_bytes;
}

/* What a hardened heap keeps back is live to its slabs alone. */
static void count_held(space_stats *stats, const heap *h)
{
    for (uint32_t i = 0; h->hardened != NULL && i < h->view.zone->classes->count; i++) {
        space_class_stats *row = &stats->classes[i];
        const hardened_class *c = &h->hardened->classes[i];
        size_t held = atomic_load_explicit(&c->held_count, memory_order_relaxed);
        held += atomic_load_explicit(&c->spare, memory_order_relaxed) != 0;
        held = min_size(held, row->live_objects);
        row->live_objects -= held;
        row->free_objects += held;
        stats->live_objects -= held;
        stats->live_bytes -= held * row->object_bytes;
        stats->free_bytes += held * row->object_bytes;
    }
}

void heap_add_counts(const heap *h, class_counts *by_class)
{
    for (uint32_t i = 0; i < zone_sc_count(h->view.zone); i++) {
        const slabmalloc_sc *sc = &h->view.zone->sc[i];
        by_class[sc->index].served += atomic_load_explicit(&sc->served, memory_order_relaxed);
        by_class[sc->index].remote_frees += atomic_load_explicit(&sc->remote_frees, memory_order_relaxed);
    }
}

/* What the classes did so far; of the objects without bytes there is no row. */
static void count_past(space_stats *stats, const space *s)
{
    class_counts counts[HEAP_CLASSES], of_nothing[HEAP_CLASSES] = {{0}};
    memcpy(counts, s->past.classes, sizeof(counts));
    for (const heap *h = s->heaps; h != NULL; h = h->next)
        heap_add_counts(h, h->is_nothing ? of_nothing : counts);
    stats->served_objects += of_nothing[0].served;
    stats->remote_frees += of_nothing[0].remote_frees;
    const slabmalloc_size_classes *classes = &s->options.classes;
    for (uint32_t i = 0; i < classes->count; i++) {
        size_t peak_pages = atomic_load_explicit(&s->class_peak_pages[i], memory_order_relaxed);
        stats->served_objects += counts[i].served;
        stats->remote_frees += counts[i].remote_frees;
        if (peak_pages == 0)
            continue;
        space_class_stats *row = &stats->classes[i];
        row->object_bytes = classes->sizes[i];
        row->peak_pages_bytes = peak_pages * sizeclass_page_bytes(classes, i);
        row->served_objects = counts[i].served;
        row->remote_frees += counts[i].remote_frees;
    }
}

static void count_heaps(space_stats *stats, const space *s)
{
    stats->given_back_bytes += s->past.swept_bytes;
    count_past(stats, s);
    for (const heap *h = s->heaps; h != NULL; h = h->next) {
        stats->heaps++;
        count_held(stats, h);
        stats->abandoned_heaps += h->state == HEAP_ABANDONED;
        stats->given_back_bytes += atomic_load_explicit(&h->swept_bytes, memory_order_relaxed);
        stats->bookkeeping_bytes += slabmalloc_zone_bookkeeping_bytes(h->view.zone);
    }
}

space_stats space_statistics(space *s)
{
    space_stats stats = {
        .is_hardened = s->options.is_hardened,
        .huge_page_bytes = s->huge.is_wanted ? s->huge.bytes : 0,
        .huge_pages = s->huge.is_wanted         ? "on"
                      : s->huge_refusal != NULL ? s->huge_refusal
                                                : "off",
    };
    pthread_mutex_lock(&s->lock);
    pthread_mutex_lock(&s->large.lock);
    for (uint32_t i = 0; i < atomic_load_explicit(&s->range_count, memory_order_relaxed); i++)
        count_range(&stats, &s->ranges[i]);
    count_heaps(&stats, s);
    const large_space *l = &s->large;
    stats.live_objects += l->live_count;
    stats.live_bytes += l->live_bytes;
    stats.mapped_bytes += l->live_bytes + l->resting_bytes;
    stats.peak_mapped_bytes += l->peak_bytes;
    stats.resting_bytes += l->resting_bytes;
    stats.given_back_bytes += l->given_back_bytes;
    stats.bookkeeping_bytes += store_bytes(&l->store);
    stats.large_objects = l->live_count;
    stats.large_bytes = l->live_bytes;
    stats.large_resting_bytes = l->resting_bytes;
    stats.large_peak_bytes = l->peak_bytes;
    stats.served_objects += l->served_count;
    stats.large_served = l->served_count;
    stats.large_reused = l->reused_count;
    pthread_mutex_unlock(&s->large.lock);
    pthread_mutex_unlock(&s->lock);
    return stats;
}

/* ---- physical memory ---------------------------------------------------------------------------------------- */

/* Pages of slabs, and units that rest; what is lent has neither. [space.lock] */
static void count_resident_chunk(space_stats *stats, const range *r, size_t chunk)
{
    const arena *a = &r->arena;
    for (size_t unit = chunk * ARENA_CHUNK_UNITS; unit < (chunk + 1) * ARENA_CHUNK_UNITS; unit++) {
        char *page = (char *)a->base + unit * ARENA_UNIT_BYTES; /* NOLINT(performance-no-int-to-ptr) */
        const slab *s = atomic_load_explicit(&r->slabs[unit], memory_order_acquire);
        if (s != NULL && slab_page(s) == (uintptr_t)page) {
            size_t bytes = os_resident_bytes(page, s->sc->geometry.page_bytes);
            stats->classes[s->sc->index].resident_bytes += heap_slab_is_nothing(s) ? 0 : bytes;
            stats->heap_resident_bytes += bytes;
        } else if ((a->resting[chunk] >> unit % ARENA_CHUNK_UNITS & 1) != 0) {
            stats->heap_resident_bytes += os_resident_bytes(page, ARENA_UNIT_BYTES);
        }
    }
}

void space_count_resident(space *s, space_stats *stats)
{
    for (uint32_t i = 0; i < atomic_load_explicit(&s->range_count, memory_order_acquire); i++)
        for (size_t chunk = 0; chunk < arena_fresh(&s->ranges[i].arena); chunk++) {
            pthread_mutex_lock(&s->lock);
            count_resident_chunk(stats, &s->ranges[i], chunk);
            pthread_mutex_unlock(&s->lock);
        }
    stats->large_resident_bytes = large_resident_bytes(&s->large);
    stats->heap_resident_bytes += stats->large_resident_bytes;
}
