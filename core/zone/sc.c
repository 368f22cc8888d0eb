/* SPDX-License-Identifier: MIT
 *
 * The size-class allocator, all that is not its hot paths: lists, the cursor, and what to do when a slab runs dry.
 * States and invariants are in sc.h.
 */
#include "zone/sc.h"

#include "base/check.h"
#include "zone/remote.h"
#include "zone/zone.h"

void sc_init(slabmalloc_sc *sc, slabmalloc_zone *zone, uint32_t index, const slab_geometry *geometry)
{
    *sc = (slabmalloc_sc){
        .next = NO_SLOT,
        .current_page = NO_PAGE,
        .offset_mask = geometry->page_bytes - 1,
        .object_bytes = geometry->object_bytes,
        .geometry = *geometry,
        .zone = zone,
        .random_start = zone->random_start,
        .index = index,
    };
    atomic_init(&sc->pending, NULL);
}

/* ---- lists --------------------------------------------------------------------------------------------- */

/* The current slab is on no list that a free could change. */
enum { CURRENT_ROOM = INT32_MAX };

static uint8_t set_free_count(const slab_geometry *g, slab *s, uint32_t free_count)
{
    s->list = slab_list_for(g, free_count);
    s->room = slab_limit(g, s->list) - free_count;
    return s->list;
}

static void list_push(slabmalloc_sc *sc, slab *s, uint32_t free_count)
{
    uint8_t list = set_free_count(&sc->geometry, s, free_count);
    if (list >= SLAB_BANDS) {
        s->prev = NULL;
        s->next = sc->lists[list];
        if (s->next != NULL)
            s->next->prev = s;
        sc->lists[list] = s;
        return;
    }
    s->next = NULL;
    s->prev = sc->backs[list];
    if (s->prev != NULL)
        s->prev->next = s;
    else
        sc->lists[list] = s;
    sc->backs[list] = s;
    sc->bands |= 1u << list;
}

static void list_remove(slabmalloc_sc *sc, slab *s)
{
    ASSERT(s->list < SLAB_LISTS);
    slab **front = &sc->lists[s->list];
    if (s->list < SLAB_BANDS && s->prev == NULL && *front != s)
        front = &sc->lists[SLAB_OLD + s->list];
    if (s->next != NULL)
        s->next->prev = s->prev;
    else if (s->list < SLAB_BANDS && sc->backs[s->list] == s)
        sc->backs[s->list] = s->prev;
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        *front = s->next;
    if (s->list < SLAB_BANDS && sc->lists[s->list] == NULL)
        sc->bands &= ~(1u << s->list);
}

static void relist(slabmalloc_sc *sc, slab *s, uint32_t free_count, bool by_others)
{
    list_remove(sc, s);
    list_push(sc, s, free_count);
    const zone_watcher *watcher = &sc->zone->watcher;
    if (watcher->drained != NULL)
        watcher->drained(watcher->context, s, by_others);
}

slabmalloc_status sc_relist(slabmalloc_sc *sc, slab *s)
{
    if (s == sc_current(sc)) { /* so many frees later */
        s->room = CURRENT_ROOM;
        return SLABMALLOC_OK;
    }
    relist(sc, s, slab_limit(&sc->geometry, s->list), false);
    return SLABMALLOC_OK;
}

/* ---- the cursor ---------------------------------------------------------------------------------------- */

static void cursor_end(slabmalloc_sc *sc)
{
    sc->next = NO_SLOT;
    sc->next_word = NULL;
}

void sc_settle(slabmalloc_sc *sc)
{
    if (sc->next_word == NULL || word_get(sc->next_word) != 0)
        return;
    local_lower(sc->current_local, &sc_current(sc)->summary, &sc->geometry,
                (size_t)(sc->next_word - sc->current_local));
    cursor_end(sc);
}

void sc_seek_lowest(slabmalloc_sc *sc)
{
    sc_settle(sc);
    size_t at = local_first_word(sc->current_local, sc_current(sc)->summary, &sc->geometry);
    if (at == SIZE_MAX)
        cursor_end(sc);
    else
        sc_cursor_set(sc, &sc->current_local[at], at);
}

/* ---- the current slab ---------------------------------------------------------------------------------- */

/* The slots from the start to the end of the first word take the slow path, so they are few. */
enum { START_REACH = 8 };

static void start_at_random(slabmalloc_sc *sc, const slab_geometry *g)
{
    size_t slots = min_size(g->capacity, WORD_BITS), reach = min_size(slots, START_REACH);
    size_t slot = slots - 1 - (size_t)(random_next(&sc->zone->random_state) >> 32) % reach;
    sc->is_starting = true;
    sc->start_bits = word_get(sc->current_local) & UINT64_MAX << slot;
    sc_current(sc)->summary &= ~word_bit(0);
    cursor_end(sc);
}

/* One more of the first word; NULL: it has no more. */
static void *allocate_at_start(slabmalloc_sc *sc)
{
    word *w = sc->current_local;
    uint64_t bits = word_get(w), left = bits & sc->start_bits; /* some may have gone out through the cursor */
    if (left == 0) {
        sc->start_bits = 0;
        return NULL;
    }
    sc->start_bits = left & (left - 1);
    bits &= ~(left & (0 - left));
    word_set(w, bits);
    if (bits == 0)
        local_lower(sc->current_local, &sc_current(sc)->summary, &sc->geometry, 0);
    if (sc->start_bits == 0)
        sc_seek_lowest(sc);
    count_add(&sc->served, 1);
    return (void *)(sc->current_page + word_lowest(left) * sc->object_bytes);
}

/* The start is over: all words are in the summary. */
static void end_start(slabmalloc_sc *sc)
{
    sc->is_starting = false;
    slab_summarize(sc_current(sc), &sc->geometry);
    sc_seek_lowest(sc);
}

static void current_set(slabmalloc_sc *sc, slab *s)
{
    const slab_geometry *g = &sc->geometry;
    bool is_starting = sc->random_start && s->list == SLAB_EMPTY && !slab_is_deep(g);
    s->list = SLAB_CURRENT;
    s->room = CURRENT_ROOM;
    s->has_purged = false;
    atomic_store_explicit(&sc->current, s, memory_order_relaxed);
    sc->current_page = slab_page(s);
    sc->current_local = s->local;
    if (is_starting)
        start_at_random(sc, g);
    else
        sc_seek_lowest(sc);
}

static void current_clear(slabmalloc_sc *sc)
{
    set_free_count(&sc->geometry, sc_current(sc), bitset_count(&sc->geometry.shape, sc->current_local));
    atomic_store_explicit(&sc->current, NULL, memory_order_relaxed);
    sc->is_starting = false;
    sc->start_bits = 0;
    sc->current_page = NO_PAGE;
    cursor_end(sc);
}

/* ---- slabs come and go --------------------------------------------------------------------------------- */

void sc_add(slabmalloc_sc *sc, slab *s)
{
    list_push(sc, s, bitset_count(&sc->geometry.shape, s->local));
    sc->pages++;
    sc->pages_taken++;
}

static slab *sc_leave(slabmalloc_sc *sc, slab *s)
{
    if (s == sc_current(sc))
        current_clear(sc);
    else
        list_remove(sc, s);
    sc->pages--;
    sc->pages_returned++;
    sc->zone->fresh_left_bytes =
        min_size(sc->zone->fresh_left_bytes + sc->geometry.page_bytes, sc->zone->fresh_most_bytes);
    return s;
}

uint32_t sc_live(const slabmalloc_sc *sc, const slab *s)
{
    const slab_geometry *g = &sc->geometry;
    return g->capacity - (s == sc_current(sc) ? bitset_count(&g->shape, s->local) : slab_free_count(s, g));
}

bool sc_current_is_empty(const slabmalloc_sc *sc)
{
    return sc_current(sc) != NULL && bitset_is_full(&sc->geometry.shape, sc->current_local);
}

slab *sc_remove_empty(slabmalloc_sc *sc)
{
    slab *s = sc->lists[SLAB_EMPTY];
    if (s == NULL && sc_current_is_empty(sc))
        s = sc_current(sc);
    return s == NULL ? NULL : sc_leave(sc, s);
}

slab *sc_remove_any(slabmalloc_sc *sc)
{
    slab *s = sc_current(sc);
    for (int list = 0; s == NULL && list < SLAB_CHAINS; list++)
        s = sc->lists[list];
    return s == NULL ? NULL : sc_leave(sc, s);
}

void sc_for_each(const slabmalloc_sc *sc, void (*visit)(void *context, slab *s), void *context)
{
    if (sc_current(sc) != NULL)
        visit(context, sc_current(sc));
    for (int list = 0; list < SLAB_CHAINS; list++)
        for (slab *s = sc->lists[list], *next; s != NULL; s = next) {
            next = s->next;
            visit(context, s);
        }
}

void sc_note_collected(slabmalloc_sc *sc, slab *s, uint32_t count)
{
    if (s == sc_current(sc)) {
        sc_seek_lowest(sc);
        return;
    }
    if (count < s->room)
        s->room -= count;
    else
        relist(sc, s, slab_free_count(s, &sc->geometry) + count, true);
}

/* ---- when the cursor is at the end ---------------------------------------------------------------------- */

/* The first time in a forked child: what is partial by now is old. */
static void bands_grow_old(slabmalloc_sc *sc)
{
    sc->forks = sc->zone->forks;
    for (int band = 0; band < SLAB_BANDS; band++) {
        slab *front = sc->lists[band], *back = sc->backs[band], *older = sc->lists[SLAB_OLD + band];
        if (front == NULL)
            continue;
        back->next = older;
        if (older != NULL)
            older->prev = back;
        sc->lists[SLAB_OLD + band] = front;
        sc->lists[band] = sc->backs[band] = NULL;
    }
    sc->bands = 0;
}

static slab *choose_fresh(slabmalloc_sc *sc)
{
    return zone_refill_from_pager(sc->zone, sc) ? sc->lists[SLAB_EMPTY] : NULL;
}

static slab *choose_old(const slabmalloc_sc *sc)
{
    slab *s = NULL;
    for (int band = 0; s == NULL && band < SLAB_BANDS; band++)
        s = sc->lists[SLAB_OLD + band];
    return s;
}

/* There has been a fork. */
static slab *choose_in_child(slabmalloc_sc *sc)
{
    slabmalloc_zone *zone = sc->zone;
    if (sc->forks != zone->forks)
        bands_grow_old(sc);
    slab *s = sc->bands != 0 ? sc->lists[word_lowest(sc->bands)] : NULL;
    if (s == NULL && zone->fresh_left_bytes == 0)
        s = choose_old(sc);
    if (s == NULL)
        s = sc->lists[SLAB_EMPTY];
    if (s == NULL) {
        s = choose_fresh(sc);
        zone->fresh_left_bytes -= min_size(zone->fresh_left_bytes, sc->geometry.page_bytes);
    }
    return s == NULL ? choose_old(sc) : s;
}

static slab *choose(slabmalloc_sc *sc)
{
    if (UNLIKELY(sc->zone->forks > 0))
        return choose_in_child(sc);
    slab *s = sc->bands != 0 ? sc->lists[word_lowest(sc->bands)] : sc->lists[SLAB_EMPTY];
    return s != NULL ? s : choose_fresh(sc);
}

void *sc_allocate_slow(slabmalloc_sc *sc)
{
    if (sc->start_bits != 0 && sc->next_word == NULL) {
        void *object = allocate_at_start(sc);
        if (object != NULL)
            return object;
    }
    if (sc_current(sc) != NULL && (slab_is_deep(&sc->geometry) || sc_step(sc, sc->zone->cursors_lag) == NO_SLOT))
        sc_seek_lowest(sc);
    if (sc->next == NO_SLOT)
        remote_collect(sc);
    if (sc->next == NO_SLOT && sc->is_starting)
        end_start(sc);
    if (sc->next == NO_SLOT) {
        slab *chosen = choose(sc);
        if (chosen == NULL)
            return NULL;
        ASSERT(sc->next == NO_SLOT); /* a pager does not use the class that it serves */
        list_remove(sc, chosen);
        if (sc_current(sc) != NULL) {
            ASSERT(sc_current(sc)->summary == 0);
            list_push(sc, sc_current(sc), 0);
        }
        current_set(sc, chosen);
    }
    return sc->next == NO_SLOT ? allocate_at_start(sc) : sc_allocate(sc);
}

/* ---- frees that are not on the hot path ------------------------------------------------------------------ */

slabmalloc_status sc_free_elsewhere(slabmalloc_sc *sc, uintptr_t object)
{
    uintptr_t page = object & ~sc->offset_mask;
    slab *s = registry_probe_home(&sc->zone->registry, page);
    if (UNLIKELY(slab_page(s) != page || s->sc != sc))
        return sc_free_away_from_home(sc, object);
    return sc_free_in_listed(sc, s, object - page);
}

slabmalloc_status sc_free_away_from_home(slabmalloc_sc *sc, uintptr_t object)
{
    uintptr_t page = object & ~sc->offset_mask;
    slab *s = registry_probe(&sc->zone->registry, page);
    return s->sc == sc ? sc_free_in_listed(sc, s, object - page) : sc_diagnose(sc, object);
}

slabmalloc_status sc_free_while_pending(slabmalloc_sc *sc, uintptr_t object, size_t index)
{
    if (bitset_has(slab_remote(sc_current(sc), &sc->geometry), index))
        return SLABMALLOC_FREE_DOUBLE;
    word *w = &sc->current_local[index / WORD_BITS];
    uint64_t old = word_get(w);
    word_set(w, old | word_bit(index));
    if (w == sc->next_word)
        sc_cursor_back(sc, object, index);
    else if (old == 0 || object < sc->next)
        return sc_free_in_other_word(sc, object, index);
    return SLABMALLOC_OK;
}

slabmalloc_status sc_free_in_other_word(slabmalloc_sc *sc, uintptr_t object, size_t index)
{
    local_raise(sc->current_local, &sc_current(sc)->summary, &sc->geometry, index / WORD_BITS);
    if (object < sc->next)
        sc_cursor_set(sc, &sc->current_local[index / WORD_BITS], index / WORD_BITS);
    return SLABMALLOC_OK;
}

slabmalloc_status sc_free_with_attention(slabmalloc_sc *sc, slab *s, size_t index)
{
    if (bitset_has(slab_remote(s, &sc->geometry), index))
        return SLABMALLOC_FREE_DOUBLE;
    word *w = &s->local[index / WORD_BITS];
    uint64_t old = word_get(w);
    word_set(w, old | word_bit(index));
    if (old == 0)
        local_raise(s->local, &s->summary, &sc->geometry, index / WORD_BITS);
    return --s->room == 0 ? sc_relist(sc, s) : SLABMALLOC_OK;
}

slabmalloc_status sc_diagnose(const slabmalloc_sc *sc, uintptr_t object)
{
    return zone_find(sc->zone, object) == NULL ? SLABMALLOC_FREE_FOREIGN : SLABMALLOC_FREE_WRONG_CLASS;
}

/* ---- the public face ----------------------------------------------------------------------------------- */

void *slabmalloc_sc_allocate(slabmalloc_sc *sc) { return sc_allocate(sc); }

slabmalloc_status slabmalloc_sc_deallocate_owned(slabmalloc_sc *sc, void *object)
{
    return sc_deallocate_owned(sc, object);
}

slabmalloc_status slabmalloc_sc_deallocate(slabmalloc_sc *sc, void *object)
{
    return zone_is_owner(sc->zone) ? sc_deallocate_owned(sc, object) : remote_deallocate(sc, object);
}

size_t slabmalloc_sc_objects_per_page(const slabmalloc_sc *sc) { return sc->geometry.capacity; }
