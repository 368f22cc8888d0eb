/* SPDX-License-Identifier: MIT
 *
 * What a hardened heap keeps back of each class: see quarantine.h.
 */
#include "heap/quarantine.h"

/* What a class may hold in its pool and in quarantine: so many bytes, within these numbers of objects. */
enum { POOL_BYTES = 16 * 1024, POOL_LEAST = 2, QUARANTINE_BYTES = 64 * 1024, QUARANTINE_LEAST = 4 };

/* ---- life ------------------------------------------------------------------------------------------------- */

/* The largest power of two that is not above bytes / object_bytes, but within the limits. */
static uint32_t share(size_t bytes, size_t object_bytes, size_t least, size_t most)
{
    size_t count = least;
    while (count * 2 <= most && count * 2 * object_bytes <= bytes)
        count *= 2;
    return (uint32_t)count;
}

void hardened_begin(heap *h)
{
    hardened *extra = h->hardened;
    extra->view = h->view;
    extra->view.bytes = h->space->ranges[0].arena.reserved_bytes;
    extra->random_state = fold(h->space->secrets.state ^ (uintptr_t)h, space_clock_ns() | 1);
    const slabmalloc_size_classes *classes = h->view.zone->classes;
    for (uint32_t i = 0; i < classes->count; i++) {
        hardened_class *c = &extra->classes[i];
        c->pool = extra->places[i];
        c->quarantine = c->pool + HARDENED_POOL_MOST;
        c->pool_mask = share(POOL_BYTES, classes->sizes[i], POOL_LEAST, HARDENED_POOL_MOST) - 1;
        c->pool_next = 0; /* the very first is the slab's lowest, right behind a guard: it may stay the only one */
        c->quarantine_mask = share(QUARANTINE_BYTES, classes->sizes[i], QUARANTINE_LEAST, HARDENED_QUARANTINE_MOST) - 1;
    }
    extra->classes[classes->count].pool = extra->places[classes->count]; /* of none_yet: it never has anything */
}

/* ---- from the pool ---------------------------------------------------------------------------------------- */

static void tell_damage(space *s, hardened_class *c, uintptr_t object)
{
    if (c != NULL)
        quarantine_hold(c, 1);
    atomic_fetch_add_explicit(&s->damages, 1, memory_order_relaxed);
    if (s->options.damaged != NULL)
        s->options.damaged(s, (const void *)object);
}

/* The same of an object that is still there: it is nobody's for ever, and its neighbours hear no more of it. (Unless it
 * was freed twice at once, and somebody has it by now.) */
static void note_damage(space *s, hardened_class *c, const block *b)
{
    tell_damage(s, c, b->object);
    if (requested_bytes_now(s, b) == SIZE_MAX)
        atomic_store_explicit(seal_of(b), seal_freed(s, seal_key(s, b->object)), memory_order_relaxed);
}

/* The place is empty: all that are get an object, if the system grants as many. Returns a place that has one now, if
 * any has. */
static NOINLINE uintptr_t *fill_pool(hardened_class *c, slabmalloc_sc *sc, uintptr_t *place)
{
    for (uint32_t i = 0; i <= c->pool_mask; i++)
        if (c->pool[i] == 0) {
            c->pool[i] = (uintptr_t)sc_allocate(sc);
            quarantine_hold(c, c->pool[i] != 0);
        }
    for (uint32_t i = 0; *place == 0 && i <= c->pool_mask; i++)
        if (c->pool[i] != 0)
            place = &c->pool[i];
    return place;
}

/* Any of the pool, whose place another one takes; 0: the system refuses. */
static uintptr_t take_from_pool(heap *h, hardened_class *c, slabmalloc_sc *sc)
{
    uintptr_t *place = quarantine_next_in_pool(h, c);
    if (UNLIKELY(*place == 0)) {
        place = fill_pool(c, sc, place);
        if (*place == 0)
            return 0;
    }
    uintptr_t object = *place, spare = atomic_load_explicit(&c->spare, memory_order_relaxed);
    if (spare != 0) {
        atomic_store_explicit(&c->spare, 0, memory_order_relaxed);
        *place = spare;
        count_add(&sc->served, 1);
        return object;
    }
    *place = (uintptr_t)sc_allocate(sc);
    if (UNLIKELY(*place == 0))
        quarantine_hold(c, -1);
    return object;
}

/* Is it clean? Of a large one its ends are looked at, and some of what is between, another part each time: to read it
 * all would cost as much as to clear it. */
static bool is_clean(heap *h, uintptr_t object, size_t bytes)
{
    enum { END = 256, PART = 128, PARTS = 4 };
    if (LIKELY(bytes <= WHOLE_BYTES))
        return is_zero((const void *)object, bytes);
    bool is_clean = is_zero((const void *)object, END) && is_zero((const void *)(object + bytes - END), END);
    for (int i = 0; is_clean && i < PARTS; i++) {
        size_t place = (size_t)(quarantine_random(h) >> 32) % (bytes / PART);
        is_clean = is_zero((const void *)(object + place * PART), PART);
    }
    return is_clean;
}

uintptr_t quarantine_take(heap *h, slabmalloc_sc *sc)
{
    hardened_class *c = &h->hardened->classes[sc->index];
    for (;;) {
        uintptr_t object = take_from_pool(h, c, sc);
        if (UNLIKELY(object == 0) || LIKELY(is_clean(h, object, sc->object_bytes)))
            return object;
        note_damage(h->space, c, &(block){.object = object, .bytes = sc->object_bytes});
    }
}

/* ---- through quarantine ----------------------------------------------------------------------------------- */

void quarantine_release_slowly(heap *h, hardened_class *c, slab *on, uintptr_t object)
{
    size_t bytes = on->sc->geometry.object_bytes; /* the slab may be gone afterwards */
    if (UNLIKELY(heap_release(h, (void *)object) != SLABMALLOC_OK))
        note_damage(h->space, c, &(block){.object = object, .bytes = bytes});
}

void quarantine_release(space *s, heap *h, slab *on, hardened_class *c, uintptr_t object)
{
    block b = {.object = object, .bytes = on->sc->geometry.object_bytes, .slab = on};
    if (UNLIKELY(!quarantine_is_whole(s, &b))) {
        note_damage(s, c, &b);
    } else if (h != NULL && c != NULL && slab_is_plain_in(on, h->view.zone)) {
        quarantine_release_own(h, c, &b);
    } else {
        atomic_store_explicit(seal_of(&b), 0, memory_order_relaxed);
        void *freed = (void *)object;
        if (UNLIKELY((h != NULL ? heap_release(h, freed) : heap_release_remote(s, freed)) != SLABMALLOC_OK))
            note_damage(s, c, &b);
    }
}

/* The same of what was in quarantine. A slab stays as long as one of its objects is not free: unless that was freed
 * twice at once. */
ALWAYS_INLINE void release_from(space *s, heap *h, hardened_class *c, uintptr_t leaving)
{
    slab *on = heap_own_slab(&h->hardened->view, leaving);
    if (UNLIKELY(on == NULL))
        on = space_slab_at(s, leaving);
    if (LIKELY(on != NULL))
        quarantine_release(s, h, on, c, leaving);
    else
        tell_damage(s, c, leaving);
}

void quarantine_put(space *s, heap *h, slab *on, uintptr_t object)
{
    hardened_class *c = &h->hardened->classes[on->sc->index];
    uintptr_t leaving = *quarantine_next_out(c);
    quarantine_enter(h, c, object, on->sc->geometry.object_bytes);
    if (UNLIKELY(leaving == 0)) {
        quarantine_hold(c, 1);
        return;
    }
    release_from(s, h, c, leaving);
}

/* ---- none is kept back ------------------------------------------------------------------------------------ */

static size_t empty_quarantine(heap *h, hardened_class *c)
{
    size_t count = 0;
    for (uint32_t i = 0; i <= c->quarantine_mask; i++) {
        uintptr_t leaving = c->quarantine[i];
        if (leaving == 0)
            continue;
        c->quarantine[i] = 0;
        quarantine_hold(c, -1);
        release_from(h->space, h, c, leaving);
        count++;
    }
    return count;
}

static size_t empty_pool(heap *h, hardened_class *c)
{
    size_t count = 0;
    uintptr_t spare = atomic_exchange_explicit(&c->spare, 0, memory_order_relaxed);
    if (spare != 0) {
        heap_release(h, (void *)spare);
        count++;
    }
    for (uint32_t i = 0; i <= c->pool_mask; i++)
        if (c->pool[i] != 0) {
            heap_release(h, (void *)c->pool[i]);
            c->pool[i] = 0;
            quarantine_hold(c, -1);
            count++;
        }
    return count;
}

static bool holds_any(const hardened_class *c)
{
    return atomic_load_explicit(&c->held_count, memory_order_relaxed) > 0 ||
           atomic_load_explicit(&c->spare, memory_order_relaxed) != 0;
}

bool hardened_holds_any(const heap *h)
{
    for (uint32_t i = 0; i < h->view.zone->classes->count; i++)
        if (holds_any(&h->hardened->classes[i]))
            return true;
    return false;
}

size_t hardened_trim(heap *h)
{
    size_t count = 0;
    for (uint32_t i = 0; i < h->view.zone->classes->count; i++) {
        hardened_class *c = &h->hardened->classes[i];
        if (holds_any(c))
            count += empty_quarantine(h, c) + empty_pool(h, c);
    }
    return count;
}
