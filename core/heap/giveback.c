/* SPDX-License-Identifier: MIT
 *
 * How a heap gives memory back, floor 3.
 *
 * A slab that becomes empty leaves its class at once (that of a hardened heap in the sweep's next round), unless it is
 * the only one there with a free slot; its page rests in the space, which purges what was not needed for a while
 * (space.c). The only slab of a class leaves when another class gets its page (recall_page in heap.c). Slabs with some
 * free slots are swept: heap_tick, which the callers owe the heap now and then, visits some in the order of their
 * addresses, and purges the OS pages without a live object in those that have not changed since the visit before. A
 * round of visits begins half a decay after the one before, at the earliest; when SWEEP_ROUNDS have gone by since a
 * slab drained, one and a half. In huge pages nothing is swept: no memory would become free by it.
 *
 * No tick takes long: it ends when a millisecond has passed, and a step of it is a fraction of that.
 *
 * Others free, take pages and purge meanwhile.
 *   1. No memory of a live object is dropped. In a slab an OS page goes if its slots are all in `local`, which the
 *      heap's owner alone writes: what others freed is live until he has collected it. Their last use of it happens
 *      before the purge: by the release of F1 and the acquire of C3 (remote.h), the purge coming after C3 in his own
 *      order. He sweeps no slab but his own. Units of the arena go under space.lock, while they rest: nobody has an
 *      address there.
 *   2. A page leaves when all its slots are in `local`: then no freer touches the slab any more (5. in remote.h). Its
 *      table entry is cleared before the page goes back; the next owner writes his after he has taken it, and before
 *      he hands an object out. The page goes and comes under space.lock, whose release and acquire order the two
 *      writes; where it goes from class to class of one heap, both are its owner's.
 *   3. slab.has_purged and the OS page's bit in range.purged  =>  it has no memory: allocations come from the current
 *      slab alone, and has_purged is false from when a slab becomes current.
 *   4. Nothing stays. What others freed is on a stack (3. in remote.h), each round of a heap collects all of its
 *      stacks, and what that empties is reclaimed in steps (`is_reclaiming`); what rests goes by anybody's tick, if
 *      not by one that finds space.lock held, then by the next.
 * Checked by the model tests/model/spin/giveback.pml, which fails with any of these left out. Whose a heap is:
 * heap.h.
 */
#include "heap/heap.h"

#include "base/check.h"
#include "heap/hardened.h"
#include "slab/pager.h"

/* A step is a few visits and calls of the system; a tick is so many steps, or those of so much time. */
enum {
    STEP_VISITS = 256,
    STEP_PURGES = 16,
    STEP_COLLECTED = 4096,
    STEP_SMALL_PAGES = 8,
    STEP_MEDIUM_PAGES = 1,
    TICK_STEPS = 16,
    TICK_NS = 1000000,
    SWEEP_ROUNDS = 3,
    DRAINS_PER_TICK = 64
};

/* Set in `seen` of a page whose slab was swept at this count; of a current slab nothing else tells. */
enum { SEEN_SWEPT = 0x8000 };

/* ---- OS pages without a live object ------------------------------------------------------------------------ */

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

typedef struct sweeping {
    heap *h;
    slab *s;
    uint16_t *purged; /* of the page's units */
    size_t os_bytes, calls;
} sweeping;

static bool is_purgeable(const sweeping *w, size_t os_page)
{
    const slab_geometry *g = &w->s->sc->geometry;
    size_t begin = os_page * w->os_bytes, end = begin + w->os_bytes, per_unit = ARENA_UNIT_BYTES / w->os_bytes;
    return (w->purged[os_page / per_unit] >> os_page % per_unit & 1) == 0 &&
           slots_are_free(w->s, g, begin / g->object_bytes, (end + g->object_bytes - 1) / g->object_bytes);
}

static void purge_run(sweeping *w, size_t begin, size_t end)
{
    size_t per_unit = ARENA_UNIT_BYTES / w->os_bytes;
    for (size_t i = begin; i < end; i++)
        w->purged[i / per_unit] |= (uint16_t)(1u << i % per_unit);
    void *run = (void *)(slab_page(w->s) + begin * w->os_bytes);
    size_t run_bytes = (end - begin) * w->os_bytes, resident_bytes = os_resident_bytes(run, run_bytes);
    if (slabmalloc_os_purge(run, run_bytes) == 0)
        count_add(&w->h->swept_bytes, resident_bytes); /* much of a slab may never have been touched */
    w->calls++;
}

/* Purges the OS pages of a slab that hold no live object, neighbours in one call; returns the calls made. */
static size_t sweep_slab(heap *h, range *r, slab *s)
{
    size_t first = range_unit_of(r, slab_page(s)), page_bytes = s->sc->geometry.page_bytes;
    sweeping w = {.h = h, .s = s, .purged = &r->purged[first], .os_bytes = os_page_bytes(), .calls = 0};
    if (w.os_bytes >= ARENA_UNIT_BYTES)
        return 0;
    if (!s->has_purged) /* nothing is known to be purged still */
        for (size_t unit = 0; unit < page_bytes / ARENA_UNIT_BYTES; unit++)
            w.purged[unit] = 0;
    s->has_purged = s != sc_current(s->sc);
    s->looks = heap_looks_of(s);
    for (size_t i = 0, end; i < page_bytes / w.os_bytes; i = end + 1) {
        for (end = i; end < page_bytes / w.os_bytes && is_purgeable(&w, end); end++)
            ;
        if (end > i)
            purge_run(&w, i, end);
    }
    return w.calls;
}

/* Up to so many empty pages of each kind leave. */
static size_t reclaim(heap *h, size_t small_count, size_t medium_count)
{
    return slabmalloc_zone_reclaim(h->view.zone, -1, HEAP_PAGE_BYTES, small_count, NULL, NULL) +
           slabmalloc_zone_reclaim(h->view.zone, -1, HEAP_MEDIUM_PAGE_BYTES, medium_count, NULL, NULL);
}

size_t heap_reclaim(heap *h) { return reclaim(h, SIZE_MAX, SIZE_MAX); }

/* ---- the sweep ------------------------------------------------------------------------------------------- */

/* The heap's own slab whose page begins at `unit`, or NULL. Other heaps' records are their owners' to look at. */
static slab *own_slab_at(const heap *h, const range *r, size_t unit)
{
    slab *s = registry_probe(&h->view.zone->registry, r->arena.base + unit * ARENA_UNIT_BYTES);
    return s == &registry_nothing ? NULL : s;
}

/* Visits the page that begins at `unit`; returns the calls of the system made. */
static size_t visit(heap *h, range *r, size_t unit)
{
    slab *s = own_slab_at(h, r, unit);
    if (s == NULL)
        return 0;
    bool is_current = s == sc_current(s->sc);
    if (!is_current && s->list == SLAB_FULL)
        return 0;
    uint16_t count = (uint16_t)(s->sc->geometry.capacity - sc_live(s->sc, s));
    size_t calls = 0;
    bool is_unchanged = (r->seen[unit] & ~SEEN_SWEPT) == count, is_swept = (r->seen[unit] & SEEN_SWEPT) != 0;
    if (h->is_trimming || (is_unchanged && (!is_current || !is_swept))) {
        calls = sweep_slab(h, r, s);
        count |= SEEN_SWEPT;
    }
    r->seen[unit] = count;
    return calls;
}

static size_t units_in_use(const range *r) { return arena_fresh(&r->arena) * (size_t)ARENA_CHUNK_UNITS; }

static size_t all_units(space *s)
{
    size_t units = 0;
    for (uint32_t i = 0; i < atomic_load_explicit(&s->range_count, memory_order_acquire); i++)
        units += units_in_use(&s->ranges[i]);
    return units;
}

/* The next unit of the sweep, through all ranges and around. */
static void advance(heap *h)
{
    if (++h->visit < units_in_use(&h->space->ranges[h->visit_range]))
        return;
    h->visit = 0;
    h->visit_range = (h->visit_range + 1) % atomic_load_explicit(&h->space->range_count, memory_order_acquire);
}

/* What others freed in classes that the owner needs no more nobody else would collect. */
static void collect_some(heap *h)
{
    for (size_t collected = 0; h->collects_left > 0 && collected < STEP_COLLECTED;)
        collected += remote_collect(&h->view.zone->sc[--h->collects_left]);
}

/* A hardened heap's slabs come and go at the price of two calls of the system each, for their guards: so those that are
 * empty stay for the next who needs one of their class, until the sweep's next round. */
static bool keeps_empty_slabs(const heap *h) { return h->hardened != NULL && h->space->options.decay_ms > 0; }

/* "At once" is once a moment, as the clock tells them: the thousands of ticks of one would look at all slabs each. */
static uint64_t pause_ms(uint64_t decay_ms) { return decay_ms > 0 ? decay_ms : 1; }

/* A step of the sweep, if one is due; true: there is more. */
static bool sweep(heap *h, uint64_t now_ms)
{
    size_t calls = 0;
    if (h->visits_left == 0 && h->collects_left == 0 && !h->is_reclaiming) {
        /* Frees in current slabs drain nothing: so there is a round now and then in any case. */
        uint64_t begin_ms = h->rounds_left > 0 ? h->next_round_ms : h->next_round_ms + h->space->options.decay_ms;
        if (now_ms < begin_ms)
            return false;
        h->rounds_left -= h->rounds_left > 0;
        h->next_round_ms = now_ms + pause_ms(h->space->options.decay_ms / 2);
        h->visits_left =
            h->space->huge.is_wanted ? 0 : all_units(h->space); /* OS pages of huge ones don't go by themselves */
        h->collects_left = zone_sc_count(h->view.zone);
        if (now_ms >= h->next_looks_ms) {
            h->next_looks_ms = now_ms + HEAP_LOOKS_MS;
            h->looks_left[0] = h->looks_left[1] = HEAP_LOOKS;
        }
        h->is_reclaiming = keeps_empty_slabs(h);
    }
    if (h->collects_left > 0)
        collect_some(h);
    else if (h->is_reclaiming)
        h->is_reclaiming = reclaim(h, STEP_SMALL_PAGES, STEP_MEDIUM_PAGES) > 0;
    if (h->is_trimming && (h->collects_left > 0 || h->is_reclaiming))
        return true;
    for (size_t visits = 0; h->visits_left > 0 && visits < STEP_VISITS && calls < STEP_PURGES; visits++) {
        advance(h);
        calls += visit(h, &h->space->ranges[h->visit_range], h->visit);
        h->visits_left--;
    }
    h->is_trimming = h->is_trimming && h->visits_left > 0;
    return h->visits_left > 0 || h->collects_left > 0 || h->is_reclaiming;
}

/* A round that begins now, and takes what has just changed too. */
static void begin_trimming(heap *h)
{
    if (h->hardened != NULL)
        hardened_trim(h);
    h->is_trimming = h->is_reclaiming = true;
    h->collects_left = zone_sc_count(h->view.zone);
    h->visits_left = h->space->huge.is_wanted ? 0 : all_units(h->space);
    h->idle_ms = 0;
}

/* The heap's part of a trim that another thread began. */
static void heed_trim(heap *h)
{
    if (LIKELY(!atomic_load_explicit(&h->trim_wanted, memory_order_relaxed)))
        return;
    atomic_store_explicit(&h->trim_wanted, false, memory_order_relaxed);
    begin_trimming(h);
}

void heap_note_drained(void *context, slab *s, bool by_others)
{
    heap *h = context;
    slabmalloc_sc *sc = s->sc;
    h->rounds_left = SWEEP_ROUNDS;
    if (by_others) /* ticks do it in steps: one call of the owner's may find thousands */
        h->is_reclaiming = true;
    if (h->is_busy || by_others)
        return;
    if (s->list == SLAB_EMPTY && (sc->bands != 0 || s->next != NULL) && !keeps_empty_slabs(h))
        slabmalloc_zone_reclaim(h->view.zone, (int)sc->index, sc->geometry.page_bytes, 1, NULL, NULL);
    if (++h->drains % DRAINS_PER_TICK == 0)
        heap_tick(h);
}

static void trim_own(heap *h)
{
    bool was_busy = h->is_busy;
    h->is_busy = true;
    atomic_store_explicit(&h->trim_wanted, false, memory_order_relaxed);
    if (h->hardened != NULL)
        hardened_trim(h);
    slabmalloc_zone_collect(h->view.zone);
    heap_reclaim(h);
    uint32_t swept = h->space->huge.is_wanted ? 0 : atomic_load_explicit(&h->space->range_count, memory_order_acquire);
    for (uint32_t i = 0; i < swept; i++) {
        range *r = &h->space->ranges[i];
        for (size_t unit = 0; unit < units_in_use(r); unit++) {
            slab *s = own_slab_at(h, r, unit);
            if (s != NULL && (s == sc_current(s->sc) || s->list < SLAB_BANDS))
                sweep_slab(h, r, s);
        }
    }
    h->is_busy = was_busy;
}

void heap_tick(heap *h)
{
    if (h->is_busy)
        return;
    h->is_busy = true;
    heed_trim(h);
    uint64_t now_ms = space_now_ms();
    if (now_ms == h->idle_ms) {
        h->is_busy = false;
        return;
    }
    uint64_t end_ns = space_clock_ns() + TICK_NS;
    for (int steps = 0; steps < TICK_STEPS; steps++) {
        bool is_sweep_more = sweep(h, now_ms), is_decay_more = space_decay(h->space, now_ms);
        if (!is_sweep_more && !is_decay_more) {
            h->idle_ms = now_ms;
            break;
        }
        if (space_clock_ns() >= end_ns)
            break;
    }
    h->is_busy = false;
}

/* ---- heaps without an owner -------------------------------------------------------------------------------- */

bool heap_tend_abandoned(space *s, uint64_t now_ms)
{
    heap *h = heap_borrow(s, now_ms, 0);
    if (h == NULL)
        return false;
    h->is_busy = true;
    heed_trim(h);
    if (h->hardened != NULL && h->was_tended) /* nobody comes for what it keeps back */
        hardened_trim(h);
    h->was_tended = true;
    size_t left = reclaim(h, STEP_SMALL_PAGES, STEP_MEDIUM_PAGES);
    /* Where there may be more to do it is due again at once, behind all others; a heap without a page has nothing to
     * sweep. */
    bool is_more = h->view.zone->registry.count > 0 && (sweep(h, now_ms) || left > 0);
    h->next_tending_ms = is_more ? now_ms : now_ms + pause_ms(s->options.decay_ms);
    h->is_busy = false;
    heap_return(h, s->options.decay_ms == 0);
    return true;
}

static uint64_t given_back(space *s)
{
    pthread_mutex_lock(&s->lock);
    pthread_mutex_lock(&s->large.lock);
    uint64_t bytes = s->large.given_back_bytes + s->past.swept_bytes;
    for (uint32_t i = 0; i < atomic_load_explicit(&s->range_count, memory_order_relaxed); i++)
        bytes += s->ranges[i].arena.given_back_bytes;
    for (const heap *h = s->heaps; h != NULL; h = h->next)
        bytes += atomic_load_explicit(&h->swept_bytes, memory_order_relaxed);
    pthread_mutex_unlock(&s->large.lock);
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

/* Before any abandoned heap is trimmed, and whether it has an owner just now or not: he may abandon it, or get it,
 * before we come to it. */
static void ask_others(heap *h)
{
    space *s = h->space;
    pthread_mutex_lock(&s->lock);
    for (heap *other = s->heaps; other != NULL; other = other->next)
        if (other != h)
            atomic_store_explicit(&other->trim_wanted, true, memory_order_relaxed);
    pthread_mutex_unlock(&s->lock);
}

static void trim_heaps(heap *h)
{
    space *s = h->space;
    trim_own(h);
    uint64_t trim = atomic_fetch_add_explicit(&s->trims, 1, memory_order_relaxed) + 1;
    ask_others(h);
    for (heap *other; (other = heap_borrow(s, 0, trim)) != NULL; heap_return(other, true)) {
        trim_own(other);
        other->last_trim = trim;
    }
}

size_t heap_trim(heap *h)
{
    space *s = h->space;
    uint64_t before = given_back(s);
    trim_heaps(h);
    if (h->hardened != NULL) /* what one of them kept back may have been another's, who was through with it */
        trim_heaps(h);
    space_trim(s);
    return (size_t)(given_back(s) - before);
}
