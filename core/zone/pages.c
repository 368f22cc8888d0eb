/* SPDX-License-Identifier: MIT
 *
 * The pages of a zone, floor 2: refill, restore, reclaim. A page is looked at before it is believed: alignment, overlap
 * with what the zone has, a slab that it carries.
 */
#include "base/check.h"
#include "zone/remote.h"
#include "zone/zone.h"

/* Does memory [page, page + bytes) meet a page of the zone? */
static bool is_overlapping(const slabmalloc_zone *zone, uintptr_t page, size_t bytes)
{
    if (zone_find(zone, page) != NULL)
        return true;
    size_t smaller = min_size(zone->classes->base_page_bytes, zone->classes->large_page_bytes);
    for (uintptr_t inner = page + smaller; inner < page + bytes; inner += smaller)
        if (registry_find(&zone->registry, inner) != &registry_nothing)
            return true;
    return false;
}

/* A record for the page, with bitsets where they belong, not in the registry yet; NULL: no memory for bookkeeping.
 * Bitsets apart lie behind their record. */
static slab *slab_new(slabmalloc_zone *zone, slabmalloc_sc *sc, uintptr_t page)
{
    slab *s = sc->spare;
    if (s != NULL) {
        sc->spare = s->next;
    } else {
        size_t bitsets_bytes = zone->metadata_apart ? 2 * sizeof(word) * bitset_words(&sc->geometry.shape) : 0;
        s = store_take(&zone->store, sizeof(slab) + bitsets_bytes);
        if (s == NULL)
            return NULL;
        atomic_init(&s->tagged_zone, (uintptr_t)zone);
        s->sc = sc;
        s->offset_mask = sc->offset_mask;
        s->reciprocal = sc->geometry.reciprocal;
        s->slots_bound = sc->geometry.slots_bound;
        s->local = slab_local_apart(s);
    }
    if (!zone->metadata_apart)
        s->local = slab_local_in_page(&sc->geometry, page);
    atomic_store_explicit(&s->page, page, memory_order_relaxed);
    return s;
}

/* The tag and pending_next stay: a freer that is late may have the record on a stack, or be about to. */
static void slab_delete(slab *s)
{
    atomic_store_explicit(&s->page, 0, memory_order_relaxed);
    s->list = SLAB_UNUSED;
    s->next = s->sc->spare;
    s->sc->spare = s;
}

static slabmalloc_status take_page(slabmalloc_zone *zone, slabmalloc_sc *sc, void *memory, bool is_restored)
{
    uintptr_t page = (uintptr_t)memory;
    if (page == 0 || page % sc->geometry.page_bytes != 0)
        return SLABMALLOC_PAGE_MISALIGNED;
    slab_trailer trailer;
    if (is_overlapping(zone, page, sc->geometry.page_bytes) ||
        (!is_restored && !zone->metadata_apart && slab_is_carried(page, sc->geometry.page_bytes, &trailer)))
        return SLABMALLOC_PAGE_IN_USE;
    slab *s = slab_new(zone, sc, page);
    if (s == NULL)
        return SLABMALLOC_OUT_OF_MEMORY;
    if (is_restored && !slab_restore(s, &sc->geometry)) {
        slab_delete(s);
        return SLABMALLOC_PAGE_UNREADABLE;
    }
    if (!is_restored)
        slab_format(s, &sc->geometry);
    if (!registry_insert(&zone->registry, s)) {
        if (!is_restored)
            slab_wipe(&sc->geometry, page);
        slab_delete(s);
        return SLABMALLOC_OUT_OF_MEMORY;
    }
    sc_add(sc, s);
    if (zone->watcher.joined != NULL)
        zone->watcher.joined(zone->watcher.context, s);
    return SLABMALLOC_OK;
}

slabmalloc_status slabmalloc_zone_refill(slabmalloc_zone *zone, size_t size, size_t align, void *page,
                                         size_t page_bytes)
{
    slabmalloc_sc *sc = zone_sc(zone, size, align);
    if (sc == NULL)
        return SLABMALLOC_INVALID_LAYOUT;
    if (page_bytes != sc->geometry.page_bytes)
        return SLABMALLOC_PAGE_SIZE;
    return take_page(zone, sc, page, false);
}

slabmalloc_status slabmalloc_zone_restore(slabmalloc_zone *zone, void *page, size_t page_bytes)
{
    if (!is_power_of_two(page_bytes) || page_bytes < SLABMALLOC_MIN_PAGE_BYTES ||
        page_bytes > SLABMALLOC_MAX_PAGE_BYTES)
        return SLABMALLOC_PAGE_SIZE;
    if (page == NULL || (uintptr_t)page % page_bytes != 0)
        return SLABMALLOC_PAGE_MISALIGNED;
    slab_trailer trailer;
    if (!slab_is_carried((uintptr_t)page, page_bytes, &trailer))
        return SLABMALLOC_PAGE_UNREADABLE;
    slabmalloc_sc *sc = zone_sc(zone, trailer.object_bytes, SLABMALLOC_GRANULE_BYTES);
    if (sc == NULL || zone->metadata_apart)
        return SLABMALLOC_PAGE_CLASS;
    const slab_geometry *g = &sc->geometry;
    if (g->object_bytes != trailer.object_bytes || g->page_bytes != page_bytes || g->capacity != trailer.capacity)
        return SLABMALLOC_PAGE_CLASS;
    return take_page(zone, sc, page, true);
}

/* A client's pager does not use the zone. That of a heap takes pages from other classes of it: so nothing of them is
 * known from before the call. */
bool zone_refill_from_pager(slabmalloc_zone *zone, slabmalloc_sc *sc)
{
    if (!zone->has_pager)
        return false;
    void *page = zone->pager.allocate(zone->pager.context, sc->geometry.page_bytes);
    if (page == NULL)
        return false;
    slabmalloc_status status = take_page(zone, sc, page, false);
    if (status == SLABMALLOC_OUT_OF_MEMORY && zone->watcher.starved != NULL &&
        zone->watcher.starved(zone->watcher.context))
        status = take_page(zone, sc, page, false);
    if (status == SLABMALLOC_OK)
        return true;
    zone->pager.release(zone->pager.context, page, sc->geometry.page_bytes);
    return false;
}

static size_t reclaim(slabmalloc_zone *zone, slabmalloc_sc *sc, size_t count,
                      void (*give_back)(void *context, void *page, size_t page_bytes), void *context)
{
    size_t done = 0;
    remote_collect(sc);
    for (slab *s; done < count && (s = sc_remove_empty(sc)) != NULL; done++) {
        uintptr_t page = slab_page(s);
        registry_remove(&zone->registry, s);
        if (zone->watcher.left != NULL)
            zone->watcher.left(zone->watcher.context, s);
        slab_wipe(&sc->geometry, page);
        slab_delete(s);
        give_back(context, (void *)page, sc->geometry.page_bytes);
    }
    return done;
}

size_t slabmalloc_zone_reclaim(slabmalloc_zone *zone, int class_index, size_t page_bytes, size_t count,
                               void (*give_back)(void *context, void *page, size_t page_bytes), void *context)
{
    if (give_back == NULL && zone->has_pager) {
        give_back = zone->pager.release;
        context = zone->pager.context;
    }
    slabmalloc_sc *only = slabmalloc_zone_sc(zone, class_index), *first = only != NULL ? only : zone->sc;
    slabmalloc_sc *end = only != NULL ? only + 1 : class_index < 0 ? zone->sc + zone_sc_count(zone) : first;
    size_t done = 0;
    for (slabmalloc_sc *sc = first; sc < end && give_back != NULL; sc++)
        if (sc->geometry.page_bytes == page_bytes)
            done += reclaim(zone, sc, count - done, give_back, context);
    return done;
}
