/* SPDX-License-Identifier: MIT
 *
 * The process heap: a zone over the pages of a space, its life, and objects without layouts. How memory goes back is in
 * giveback.c.
 */
#include "heap/heap.h"

#include <string.h>

#include "base/check.h"
#include "heap/hardened.h"
#include "slab/pager.h"

_Static_assert(HEAP_PAGE_BYTES / SLABMALLOC_MIN_PAGE_BYTES <= 16, "range.purged has a bit per OS page of a unit");
_Static_assert(HEAP_SMALL_BYTES >= ZONE_SMALL_BYTES && HEAP_MEDIUM_BYTES <= ZONE_TABLE_BYTES,
               "the zone's tables serve");

/* ---- pages ----------------------------------------------------------------------------------------------- */

/* The end of a hardened heap's page is a guard while the page is a slab; not where OS pages are too large for that. */
static size_t guard_bytes(const space *s)
{
    enum { SHARE = 8 };
    size_t bytes = os_page_bytes();
    return s->options.is_hardened && bytes <= HEAP_PAGE_BYTES / SHARE ? bytes : 0;
}

/* The end of the page becomes its guard, or is it no more; false: the system refuses. Pages have one as far as the
 * system's count of mappings allows. */
static bool guard_end(const heap *h, void *page, size_t page_bytes, bool is_guard)
{
    size_t bytes = h->is_nothing ? page_bytes : guard_bytes(h->space);
    bool is_left_out = !h->is_nothing && (uintptr_t)page - h->view.base >= h->space->guarded_bytes;
    return bytes == 0 || is_left_out || os_guard((char *)page + page_bytes - bytes, bytes, is_guard) == 0;
}

static bool is_idle(const slabmalloc_sc *sc) { return sc->pages == 1 && sc_current_is_empty(sc); }

static void keep_page(void *context, void *page, size_t page_bytes)
{
    (void)page_bytes;
    *(void **)context = page;
}

/* The page of a class whose only slab is empty; NULL: there is none. So the blocks of a moment, of many sizes one after
 * another, as of a program that reads its modules, share what memory they touch. Not in a hardened heap, where memory
 * shall not come to another so soon. */
static void *recall_page(heap *h, size_t page_bytes)
{
    slabmalloc_zone *zone = h->view.zone;
    void *page = NULL;
    for (uint32_t i = 0; h->hardened == NULL && page == NULL && i < zone_sc_count(zone); i++)
        if (zone->sc[i].geometry.page_bytes == page_bytes && is_idle(&zone->sc[i]))
            slabmalloc_zone_reclaim(zone, (int)zone->sc[i].index, page_bytes, 1, keep_page, &page);
    return page;
}

/* Who looks for each page in all classes, and classes that take a page from each other by turns, lose more than they
 * gain: so one looks now and then, and when there is nothing else. */
static void *page_take(heap *h, size_t page_bytes)
{
    void *page = NULL;
    uint32_t *looks_left = &h->looks_left[page_bytes == HEAP_MEDIUM_PAGE_BYTES];
    if (*looks_left > 0) {
        (*looks_left)--;
        page = recall_page(h, page_bytes);
    }
    if (page == NULL)
        page = space_take_page(h->space, page_bytes);
    return page != NULL ? page : recall_page(h, page_bytes);
}

static void *page_allocate(void *context, size_t page_bytes)
{
    heap *h = context;
    void *page = page_take(h, page_bytes);
    if (page == NULL)
        return NULL;
    if (UNLIKELY(atomic_load_explicit(&h->space->has_traps, memory_order_relaxed)) &&
        os_guard(page, page_bytes, false) != 0) {
        space_give_page(h->space, page, page_bytes);
        return NULL;
    }
    if (h->is_nothing)
        slabmalloc_os_purge(page, page_bytes); /* nobody would ever give back what it still has */
    guard_end(h, page, page_bytes, true);
    return page;
}

/* A guard that stays one would be a trap for the next who gets the page: who does so looks. */
static void page_release(void *context, void *page, size_t page_bytes)
{
    heap *h = context;
    if (!guard_end(h, page, page_bytes, false))
        atomic_store_explicit(&h->space->has_traps, true, memory_order_relaxed);
    space_give_page(h->space, page, page_bytes);
}

static void enter_slab(heap *h, const slab *s, slab *entry)
{
    range *r = space_range_of(h->space, slab_page(s));
    size_t first = range_unit_of(r, slab_page(s)), count = s->sc->geometry.page_bytes / ARENA_UNIT_BYTES;
    for (size_t unit = first; unit < first + count; unit++)
        atomic_store_explicit(&r->slabs[unit], entry, memory_order_release);
}

static void count_page(space *s, uint32_t class_index)
{
    size_t pages = atomic_fetch_add_explicit(&s->class_pages[class_index], 1, memory_order_relaxed) + 1;
    size_t peak = atomic_load_explicit(&s->class_peak_pages[class_index], memory_order_relaxed);
    while (pages > peak && !atomic_compare_exchange_weak_explicit(&s->class_peak_pages[class_index], &peak, pages,
                                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

/* Random start costs OS pages: it is for what compaction may be for, which is neither a class of one slab nor objects
 * as large as an OS page. */
static void slab_joined(void *context, slab *s)
{
    s->sc->random_start = s->sc->pages > 1 && s->sc->object_bytes < SLABMALLOC_MIN_PAGE_BYTES;
    s->looks = heap_looks_of(s);
    enter_slab(context, s, s);
    const heap *h = context;
    if (!h->is_nothing)
        count_page(h->space, s->sc->index);
}

static void object_doubled(void *context, void *object)
{
    const heap *h = context;
    if (h->space->options.late_double_free != NULL)
        h->space->options.late_double_free(h->space, object);
}

static void slab_left(void *context, slab *s)
{
    enter_slab(context, s, NULL);
    const heap *h = context;
    if (!h->is_nothing)
        atomic_fetch_sub_explicit(&h->space->class_pages[s->sc->index], 1, memory_order_relaxed);
}

/* Neither memory that rests nor addresses that are not in use are a reason to be refused any. */
static bool relieve(space *s) { return large_trim(&s->large) > 0 || space_make_room(s, 0); }

static bool zone_starved(void *context)
{
    heap *h = context;
    return relieve(h->space);
}

/* ---- life ------------------------------------------------------------------------------------------------ */

/* Objects of no bytes are so many apart. */
static const slabmalloc_size_classes nothing_classes = {
    .count = 1,
    .base_page_bytes = HEAP_PAGE_BYTES,
    .large_page_bytes = HEAP_MEDIUM_PAGE_BYTES,
    .max_base_bytes = HEAP_SMALL_BYTES,
    .sizes = {HEAP_ALIGN_BYTES},
};

static const uint8_t nothing_class_table[HEAP_ALIGN_BYTES / SLABMALLOC_GRANULE_BYTES + 1] = {0};

/* The heap lies in its zone's store. All in one chunk, what every heap has in front: one that uses little touches
 * little. NULL: the system refuses, and the store may have something. */
static heap *heap_new_in(store *books, space *s, bool is_nothing)
{
    enum { ROOM_BYTES = 16 * 1024 }; /* for the first slabs */
    const slabmalloc_size_classes *classes = is_nothing ? &nothing_classes : &s->options.classes;
    size_t hardened_bytes = s->options.is_hardened ? sizeof(hardened) : 0;
    if (!store_reserve(books, sizeof(heap) + CACHE_LINE_BYTES + zone_bytes(classes) + hardened_bytes + ROOM_BYTES,
                       s->huge.is_unasked))
        return NULL;
    heap *h = store_take(books, sizeof(heap));
    if (h == NULL)
        return NULL;
    const range *first = &s->ranges[0];
    *h = (heap){
        .view = {.base = first->arena.base, .slabs = first->slabs},
        .space = s,
        .is_nothing = is_nothing,
        .looks_left = {HEAP_LOOKS, HEAP_LOOKS},
        .is_busy = is_nothing, /* it gives nothing back: it has no memory */
    };
    for (int i = 0; i < HEAP_TALLIES; i++)
        atomic_init(&h->tallies[i].calls_until_tick, HEAP_CALLS_PER_TICK);
    slabmalloc_pager pager = {.allocate = page_allocate, .release = page_release, .context = h};
    slabmalloc_zone_options options = {
        .pager = &pager,
        .unowned = true,
        .metadata_apart = true,
        .seed = (uint64_t)(uintptr_t)h,
        .guard_bytes = (uint32_t)guard_bytes(s),
    };
    h->hardened = s->options.is_hardened ? store_take(books, sizeof(hardened)) : NULL;
    h->view.zone = zone_create_in(books, &options, classes, is_nothing ? nothing_class_table : s->class_table);
    return h->view.zone == NULL || (s->options.is_hardened && h->hardened == NULL) ? NULL : h;
}

static heap *heap_new(space *s, bool is_nothing)
{
    store books;
    store_init(&books, s->options.is_hardened);
    heap *h = heap_new_in(&books, s, is_nothing);
    if (h == NULL) {
        store_end(&books);
        return NULL;
    }
    if (h->hardened != NULL) {
        hardened_begin(h);
    } else {
        h->view.bytes = s->ranges[0].arena.reserved_bytes;
        h->view.small_bytes = ZONE_SMALL_BYTES;
        h->view.end_bytes = (size_t)h->view.zone->max_bytes + 1;
    }
    h->view.zone->cursors_lag = true;
    h->view.zone->watcher = (zone_watcher){.context = h,
                                           .joined = slab_joined,
                                           .left = slab_left,
                                           .drained = heap_note_drained,
                                           .doubled = object_doubled,
                                           .starved = zone_starved};
    return h;
}

heap *heap_make(space *s, bool is_nothing)
{
    heap *h;
    do
        h = heap_new(s, is_nothing);
    while (h == NULL && relieve(s));
    if (h != NULL) {
        pthread_mutex_lock(&s->lock);
        h->next = s->heaps;
        if (h->next != NULL)
            h->next->previous = h;
        s->heaps = h;
        pthread_mutex_unlock(&s->lock);
    }
    return h;
}

void heap_end(heap *h)
{
    h->view.zone->has_pager = false; /* its pages are the space's, which ends too */
    slabmalloc_zone_destroy(h->view.zone);
}

heap *heap_create(size_t reserve_bytes)
{
    space_options options = space_options_default();
    options.reserve_bytes = reserve_bytes;
    space *s = space_create(&options);
    if (s == NULL)
        return NULL;
    heap *h = heap_open(s, NULL);
    if (h == NULL)
        space_destroy(s);
    return h;
}

void heap_destroy(heap *h) { space_destroy(h->space); }

/* ---- objects --------------------------------------------------------------------------------------------- */

void *heap_allocate_nothing(space *s)
{
    pthread_mutex_lock(&s->nothing_lock);
    if (s->nothing == NULL)
        s->nothing = heap_make(s, true);
    void *object = s->nothing == NULL ? NULL : sc_allocate(zone_sc_of_class(s->nothing->view.zone, 0));
    pthread_mutex_unlock(&s->nothing_lock);
    return object;
}

void heap_keep_order(heap *h)
{
    slabmalloc_zone *zone = h->view.zone;
    zone->cursors_lag = false;
    for (uint32_t i = 0; i < zone_sc_count(zone); i++)
        if (sc_current(&zone->sc[i]) != NULL)
            sc_seek_lowest(&zone->sc[i]);
}

bool heap_is_nothing(space *s, const void *object)
{
    const slab *found = space_slab_at(s, (uintptr_t)object);
    return found != NULL && heap_slab_is_nothing(found) && heap_is_live_in(found, (uintptr_t)object);
}

/* Of a heap that is not hardened, which yields if the system refuses a page. */
static void *allocate_in(heap *h, slabmalloc_sc *sc)
{
    void *object = sc_allocate(sc);
    while (UNLIKELY(object == NULL) && heap_yield(h))
        object = sc_allocate(sc);
    return object;
}

void *heap_allocate_slow(heap *h, size_t bytes)
{
    return allocate_in(h, zone_sc_of_class(h->view.zone, zone_class_of_size(h->view.zone, bytes)));
}

void *heap_allocate_other(heap *h, size_t bytes)
{
    if (UNLIKELY(h->hardened != NULL))
        return hardened_allocate(h, bytes, HEAP_ALIGN_BYTES);
    bool is_zero;
    return bytes < h->view.end_bytes ? heap_allocate_slow(h, bytes)
                                     : heap_allocate_large(h, bytes, HEAP_ALIGN_BYTES, &is_zero);
}

void *heap_allocate_aligned(heap *h, size_t bytes, size_t align)
{
    if (align <= HEAP_ALIGN_BYTES)
        return heap_allocate(h, bytes);
    if (UNLIKELY(h->hardened != NULL))
        return hardened_allocate(h, bytes, align);
    bool is_zero;
    slabmalloc_sc *sc = zone_sc_slow(h->view.zone, max_size(bytes, 1), align);
    return sc != NULL ? allocate_in(h, sc) : heap_allocate_large(h, bytes, align, &is_zero);
}

/* What has no memory is zero: the system would find some for it and clear it twice. To ask costs less than that, and
 * more than to clear, so one asks twice for each slot of a slab. */
static void *zero(heap *h, void *object, size_t bytes)
{
    slab *s = bytes < HEAP_ASKED_BYTES ? NULL : space_slab_at(h->space, (uintptr_t)object);
    if (s == NULL || s->looks == 0)
        return memset(object, 0, bytes);
    s->looks--;
    os_zero(object, bytes);
    return object;
}

void *heap_allocate_zeroed(heap *h, size_t bytes)
{
    if (UNLIKELY(h->hardened != NULL))
        return hardened_allocate_zeroed(h, bytes);
    bool is_zero = false;
    void *object =
        bytes > HEAP_MEDIUM_BYTES ? heap_allocate_large(h, bytes, HEAP_ALIGN_BYTES, &is_zero) : heap_allocate(h, bytes);
    return object == NULL || is_zero ? object : zero(h, object, bytes);
}

_Static_assert(HEAP_PAGE_BYTES / HEAP_ALIGN_BYTES <= WORD_BITS * WORD_BITS, "no slab of a heap is deep");

slabmalloc_status heap_release_remote(space *s, void *object)
{
    slab *found = space_slab_at(s, (uintptr_t)object);
    if (found != NULL)
        return remote_free(found->sc, found, (uintptr_t)object - slab_page(found));
    large_rest rest = {
        .bound_bytes = s->options.decay_ms == 0 || s->options.is_hardened ? 0 : s->options.rest_bound_bytes,
        .other_live_bytes = atomic_load_explicit(&s->in_use_bytes, memory_order_relaxed),
        .now_ms = space_now_ms(),
    };
    return large_free(&s->large, object, &rest) ? SLABMALLOC_OK : SLABMALLOC_FREE_FOREIGN;
}

slabmalloc_status heap_free_remote(space *s, void *object)
{
    return UNLIKELY(s->options.is_hardened) ? hardened_free(s, NULL, object) : heap_release_remote(s, object);
}

slabmalloc_status heap_release(heap *h, void *object)
{
    slab *s = space_slab_at(h->space, (uintptr_t)object);
    if (s == NULL || slab_zone(s) != h->view.zone)
        return heap_release_remote(h->space, object);
    uintptr_t offset = (uintptr_t)object - slab_page(s);
    return s != sc_current(s->sc) ? sc_free_in_listed(s->sc, s, offset)
                                  : sc_free_in_current(s->sc, (uintptr_t)object, offset);
}

slabmalloc_status heap_free(heap *h, void *object)
{
    return UNLIKELY(h->hardened != NULL) ? hardened_free(h->space, h, object) : heap_release(h, object);
}

/* heap_usable_bytes in a slab of objects that have bytes. */
static size_t usable_bytes_in(const slab *s, uintptr_t object)
{
    return heap_is_live_in(s, object) ? s->sc->geometry.object_bytes : 0;
}

size_t heap_usable_bytes(space *s, const void *object)
{
    if (UNLIKELY(s->options.is_hardened))
        return hardened_usable_bytes(s, object);
    const slab *found = space_slab_at(s, (uintptr_t)object);
    if (found != NULL)
        return heap_slab_is_nothing(found) ? 0 : usable_bytes_in(found, (uintptr_t)object);
    return large_usable_bytes(&s->large, object);
}

bool heap_owns(space *s, const void *object)
{
    return space_holds(s, (uintptr_t)object) || large_usable_bytes(&s->large, object) != 0 ||
           large_rests_at(&s->large, (uintptr_t)object);
}

/* ---- what is there --------------------------------------------------------------------------------------- */

static const char *audit_range(const heap *h, const range *r, size_t *pages)
{
    if (!arena_is_valid(&r->arena))
        return "an arena's sets or counts do not fit its units";
    for (size_t unit = 0; unit < arena_fresh(&r->arena) * (size_t)ARENA_CHUNK_UNITS; unit++) {
        const slab *s = registry_probe(&h->view.zone->registry, r->arena.base + unit * ARENA_UNIT_BYTES);
        if (s == &registry_nothing)
            continue;
        ++*pages;
        for (size_t i = unit; i < unit + s->sc->geometry.page_bytes / ARENA_UNIT_BYTES; i++) {
            if (atomic_load_explicit(&r->slabs[i], memory_order_relaxed) != s)
                return "a page is not where its slab says";
            if ((r->arena.free[i / ARENA_CHUNK_UNITS] >> i % ARENA_CHUNK_UNITS & 1) != 0)
                return "a page in use is free as well";
        }
    }
    return NULL;
}

const char *heap_audit(heap *h)
{
    space *s = h->space;
    const char *fault = slabmalloc_zone_audit(h->view.zone);
    size_t pages = 0;
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; fault == NULL && i < atomic_load_explicit(&s->range_count, memory_order_relaxed); i++)
        fault = audit_range(h, &s->ranges[i], &pages);
    pthread_mutex_unlock(&s->lock);
    if (fault == NULL && pages != h->view.zone->registry.count)
        fault = "the number of pages in use is not the number of slabs";
    return fault == NULL && !large_is_valid(&s->large) ? "the books of large objects do not add up" : fault;
}
