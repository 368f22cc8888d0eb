/* SPDX-License-Identifier: MIT
 *
 * The process heap: a zone over an arena, with a table from page number to slab, and the rules by which memory goes
 * back.
 *
 * Give back. A slab that becomes empty leaves its class at once, unless it is the only one there with a free slot; its
 * page rests in the arena, which keeps at most an eighth of the pages in use resting and purges the rest. Partial slabs
 * are swept: heap_tick, which the callers owe the heap now and then, visits some slabs in the order of their addresses
 * and purges the OS pages without a live object in those that have not changed since the visit before. After the last
 * drain of any slab the sweep goes around twice, and stops.
 */
#include "heap/heap.h"

#include "base/check.h"
#include "heap/arena.h"
#include "slab/pager.h"
#include "zone/remote.h"
#include "zone/zone.h"

enum { REST_MIN_PAGES = 16, REST_SHARE = 8, TICK_VISITS = 64, TICK_PURGES = 64, SWEEP_ROUNDS = 2 };

#define RESERVE_BYTES ((size_t)64 << 30)
#define RESERVE_LEAST_BYTES ((size_t)64 << 20)

_Static_assert(HEAP_PAGE_BYTES / SLABMALLOC_MIN_PAGE_BYTES <= 16, "slab.purged has a bit per OS page");

struct heap {
    arena arena;
    slabmalloc_zone *zone;
    /* By page number. */
    slab *_Atomic *slabs; /* NULL: the page is not in use */
    uint16_t *seen;       /* free slots at the last visit */
    size_t tables_bytes;
    size_t visit, visits_left; /* the sweep */
    uint64_t swept_bytes;      /* purged inside slabs, so far */
};

/* ---- pages --------------------------------------------------------------------------------------------- */

static size_t rest_limit(const heap *h) { return max_size(REST_MIN_PAGES, h->arena.in_use_count / REST_SHARE); }

static void *page_allocate(void *context, size_t page_bytes)
{
    heap *h = context;
    ASSERT(page_bytes == HEAP_PAGE_BYTES);
    (void)page_bytes;
    return arena_take(&h->arena);
}

static void page_release(void *context, void *page, size_t page_bytes)
{
    heap *h = context;
    (void)page_bytes;
    arena_give(&h->arena, page, rest_limit(h));
}

static size_t page_number(const heap *h, uintptr_t address) { return (address - h->arena.base) / HEAP_PAGE_BYTES; }

static void slab_joined(void *context, slab *s)
{
    heap *h = context;
    atomic_store_explicit(&h->slabs[page_number(h, slab_page(s))], s, memory_order_release);
}

static void slab_left(void *context, slab *s)
{
    heap *h = context;
    atomic_store_explicit(&h->slabs[page_number(h, slab_page(s))], NULL, memory_order_relaxed);
}

static void slab_drained(void *context, slab *s)
{
    heap *h = context;
    slabmalloc_sc *sc = s->sc;
    h->visits_left = SWEEP_ROUNDS * (size_t)h->arena.fresh;
    if (s->list == SLAB_EMPTY && (sc->bands != 0 || s->next != NULL))
        slabmalloc_zone_reclaim(h->zone, (int)sc->index, HEAP_PAGE_BYTES, 1, NULL, NULL);
}

/* ---- give back ----------------------------------------------------------------------------------------- */

/* Are slots [first, end) of the slab free, as far as there are any? */
static bool slots_are_free(const slab *s, const slab_geometry *g, size_t first, size_t end)
{
    end = min_size(end, g->capacity);
    for (size_t i = first; i < end; i = (i / WORD_BITS + 1) * WORD_BITS) {
        uint64_t mask = UINT64_MAX << (i % WORD_BITS);
        if (end - i / WORD_BITS * WORD_BITS < WORD_BITS)
            mask &= word_bit(end) - 1;
        if ((word_get(&s->local[i / WORD_BITS]) & mask) != mask)
            return false;
    }
    return true;
}

static bool is_purgeable(const slab *s, const slab_geometry *g, size_t os_page, size_t os_bytes)
{
    size_t begin = os_page * os_bytes, end = begin + os_bytes;
    return (s->purged >> os_page & 1) == 0 &&
           slots_are_free(s, g, begin / g->object_bytes, (end + g->object_bytes - 1) / g->object_bytes);
}

/* Purges the OS pages of a partial slab that hold no live object, neighbours in one call; returns the calls made. */
static size_t sweep_slab(heap *h, slab *s)
{
    const slab_geometry *g = &s->sc->geometry;
    size_t os_bytes = os_page_bytes(), calls = 0;
    for (size_t i = 0, end; os_bytes < HEAP_PAGE_BYTES && i < HEAP_PAGE_BYTES / os_bytes; i = end + 1) {
        for (end = i; end < HEAP_PAGE_BYTES / os_bytes && is_purgeable(s, g, end, os_bytes); end++)
            s->purged |= (uint16_t)(1u << end);
        if (end == i)
            continue;
        slabmalloc_os_purge((void *)(slab_page(s) + i * os_bytes), (end - i) * os_bytes);
        h->swept_bytes += (end - i) * os_bytes;
        calls++;
    }
    return calls;
}

void heap_tick(heap *h)
{
    size_t purges = 0;
    for (size_t visits = 0; h->visits_left > 0 && visits < TICK_VISITS && purges < TICK_PURGES;
         visits++, h->visits_left--) {
        h->visit = h->visit + 1 < h->arena.fresh ? h->visit + 1 : 0;
        slab *s = atomic_load_explicit(&h->slabs[h->visit], memory_order_relaxed);
        if (s == NULL || s->list >= SLAB_BANDS)
            continue;
        uint16_t free_count = (uint16_t)slab_free_count(s, &s->sc->geometry);
        if (h->seen[h->visit] == free_count)
            purges += sweep_slab(h, s);
        h->seen[h->visit] = free_count;
    }
}

size_t heap_trim(heap *h)
{
    uint64_t before = h->arena.purged_bytes + h->swept_bytes;
    slabmalloc_zone_collect(h->zone);
    slabmalloc_zone_reclaim(h->zone, -1, HEAP_PAGE_BYTES, SIZE_MAX, NULL, NULL);
    arena_purge(&h->arena, 0);
    for (size_t i = 0; i < h->arena.fresh; i++) {
        slab *s = atomic_load_explicit(&h->slabs[i], memory_order_relaxed);
        if (s != NULL && s->list < SLAB_BANDS)
            sweep_slab(h, s);
    }
    return (size_t)(h->arena.purged_bytes + h->swept_bytes - before);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static slabmalloc_size_classes heap_classes(void)
{
    slabmalloc_size_classes all = slabmalloc_size_classes_default(), classes = all;
    classes.count = 0;
    for (uint32_t i = 0; i < all.count; i++)
        if (all.sizes[i] >= 16 && all.sizes[i] <= HEAP_MAX_BYTES)
            classes.sizes[classes.count++] = all.sizes[i];
    classes.base_page_bytes = classes.large_page_bytes = HEAP_PAGE_BYTES;
    classes.max_base_bytes = HEAP_MAX_BYTES;
    return classes;
}

static bool heap_init(heap *h, size_t reserve_bytes)
{
    if (!arena_init(&h->arena, reserve_bytes == 0 ? RESERVE_BYTES : reserve_bytes, RESERVE_LEAST_BYTES,
                    HEAP_PAGE_BYTES))
        return false;
    size_t slabs_bytes = h->arena.page_count * sizeof(slab *);
    h->tables_bytes = align_up(slabs_bytes + h->arena.page_count * sizeof(uint16_t), os_page_bytes());
    h->slabs = slabmalloc_os_map(h->tables_bytes, SLABMALLOC_MIN_PAGE_BYTES, false);
    if (h->slabs == NULL)
        return false;
    h->seen = (uint16_t *)((char *)h->slabs + slabs_bytes);
    slabmalloc_pager pager = {.allocate = page_allocate, .release = page_release, .context = h};
    slabmalloc_zone_options options = {
        .classes = heap_classes(),
        .pager = &pager,
        .metadata_apart = true,
        .random_start = true,
        .seed = (uint64_t)h->arena.base,
    };
    h->zone = slabmalloc_zone_create(&options);
    if (h->zone == NULL)
        return false;
    h->zone->watcher = (zone_watcher){.context = h, .joined = slab_joined, .left = slab_left, .drained = slab_drained};
    return true;
}

static void heap_end(heap *h)
{
    if (h->slabs != NULL)
        slabmalloc_os_unmap((void *)h->slabs, h->tables_bytes);
    if (h->arena.base != 0)
        arena_end(&h->arena);
    slabmalloc_os_unmap(h, align_up(sizeof(heap), os_page_bytes()));
}

heap *heap_create(size_t reserve_bytes)
{
    heap *h = slabmalloc_os_map(align_up(sizeof(heap), os_page_bytes()), SLABMALLOC_MIN_PAGE_BYTES, false);
    if (h != NULL && !heap_init(h, reserve_bytes)) {
        heap_end(h);
        h = NULL;
    }
    return h;
}

void heap_destroy(heap *h)
{
    slabmalloc_zone_destroy(h->zone);
    heap_end(h);
}

/* ---- objects ------------------------------------------------------------------------------------------- */

bool heap_owns(const heap *h, const void *object) { return arena_owns(&h->arena, (uintptr_t)object); }

/* The slab of an address of this heap, or NULL. */
ALWAYS_INLINE slab *slab_at(const heap *h, uintptr_t address)
{
    return LIKELY(arena_owns(&h->arena, address))
               ? atomic_load_explicit(&h->slabs[page_number(h, address)], memory_order_acquire)
               : NULL;
}

void *heap_allocate(heap *h, size_t bytes)
{
    if (UNLIKELY(bytes > HEAP_MAX_BYTES))
        return NULL;
    /* Every class is a multiple of 16, so every object is aligned to that. */
    return sc_allocate(zone_sc_of_size(h->zone, bytes));
}

slabmalloc_status heap_free(heap *h, void *object)
{
    slab *s = slab_at(h, (uintptr_t)object);
    if (UNLIKELY(s == NULL))
        return SLABMALLOC_FREE_FOREIGN;
    slabmalloc_sc *sc = s->sc;
    uintptr_t offset = (uintptr_t)object % HEAP_PAGE_BYTES;
    return LIKELY(s != sc->current) ? sc_free_in_listed(sc, s, offset)
                                    : sc_free_in_current(sc, (uintptr_t)object, offset);
}

slabmalloc_status heap_free_remote(heap *h, void *object)
{
    slab *s = slab_at(h, (uintptr_t)object);
    return s == NULL ? SLABMALLOC_FREE_FOREIGN : remote_free(s->sc, s, (uintptr_t)object % HEAP_PAGE_BYTES);
}

size_t heap_usable_bytes(const heap *h, const void *object)
{
    slab *s = slab_at(h, (uintptr_t)object);
    if (s == NULL)
        return 0;
    size_t index = sc_slot_at(&s->sc->geometry, (uintptr_t)object % HEAP_PAGE_BYTES);
    if (index >= s->sc->geometry.capacity || bitset_has(s->local, index) ||
        bitset_has(slab_remote(s, &s->sc->geometry), index))
        return 0;
    return s->sc->geometry.object_bytes;
}

/* ---- what is there ------------------------------------------------------------------------------------- */

heap_stats heap_statistics(heap *h)
{
    slabmalloc_class_stats sum = slabmalloc_zone_stats(h->zone, -1);
    const arena *a = &h->arena;
    return (heap_stats){
        .live_objects = sum.live_objects,
        .live_bytes = sum.live_bytes,
        .mapped_bytes = (a->in_use_count + a->resting_count) * a->page_bytes,
        .peak_mapped_bytes = a->peak_count * a->page_bytes,
        .resting_bytes = a->resting_count * a->page_bytes,
        .given_back_bytes = a->purged_bytes + h->swept_bytes,
        .reserved_bytes = a->reserved_bytes,
        .bookkeeping_bytes = slabmalloc_zone_bookkeeping_bytes(h->zone) + h->tables_bytes + a->tables_bytes,
        .remote_frees = sum.remote_frees,
    };
}

const char *heap_audit(heap *h)
{
    const char *fault = slabmalloc_zone_audit(h->zone);
    if (fault != NULL)
        return fault;
    size_t in_use = 0;
    for (size_t i = 0; i < h->arena.fresh; i++) {
        slab *s = atomic_load_explicit(&h->slabs[i], memory_order_relaxed);
        in_use += s != NULL;
        if (s != NULL &&
            (page_number(h, slab_page(s)) != i || bitset_has(h->arena.resting, i) || bitset_has(h->arena.purged, i)))
            return "a page in use is not where its number says, or rests as well";
    }
    if (in_use != h->arena.in_use_count || in_use != h->zone->registry.count)
        return "the number of pages in use is not the number of slabs";
    return bitset_count(&h->arena.shape, h->arena.resting) == h->arena.resting_count
               ? NULL
               : "the count of resting pages is not right";
}

slabmalloc_slot_info heap_inspect(heap *h, const void *address) { return slabmalloc_zone_inspect(h->zone, address); }
