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
    extra->random_state = fold(h->space->secrets.state ^ (uintptr_t)h, space_clock_ns() | 1) | 1;
    const slabmalloc_size_classes *classes = &h->view.zone->classes;
    for (uint32_t i = 0; i < classes->count; i++) {
        hardened_class *c = &extra->classes[i];
        c->pool_count = share(POOL_BYTES, classes->sizes[i], POOL_LEAST, HARDENED_POOL_MOST);
        c->pool_next = 0; /* the very first is the slab's lowest, right behind a guard: it may stay the only one */
        c->quarantine_count = share(QUARANTINE_BYTES, classes->sizes[i], QUARANTINE_LEAST, HARDENED_QUARANTINE_MOST);
    }
}

/* ---- from the pool ---------------------------------------------------------------------------------------- */

/* One word of the generator is good for several. */
static uint32_t throw(hardened *extra, uint32_t count)
{
    enum { THROWS = 4, THROW_BITS = 16 };
    if (extra->throws_left-- == 0) {
        extra->dice = random_next(&extra->random_state);
        extra->throws_left = THROWS - 1;
    }
    uint32_t thrown = (uint32_t)extra->dice & (count - 1);
    extra->dice >>= THROW_BITS;
    return thrown;
}

_Static_assert(HARDENED_QUARANTINE_MOST <= 1 << 16 && HARDENED_POOL_MOST <= 1 << 16, "a throw's bits are enough");

/* Objects that are live to the heap, and nobody's: what there is in the pool and in quarantine, and what was damaged
 * there. */
static void hold(hardened_class *c, int more)
{
    uint32_t held_count = atomic_load_explicit(&c->held_count, memory_order_relaxed) + (uint32_t)more;
    atomic_store_explicit(&c->held_count, held_count, memory_order_relaxed);
}

static void tell_damage(space *s, hardened_class *c, uintptr_t object)
{
    if (c != NULL)
        hold(c, 1);
    atomic_fetch_add_explicit(&s->damages, 1, memory_order_relaxed);
    if (s->options.damaged != NULL)
        s->options.damaged(s, (const void *)object);
}

/* The same of an object that is still there: it is nobody's for ever, and its neighbours hear no more of it. (Unless it
 * was freed twice at once, and somebody has it by now.) */
static void note_damage(space *s, hardened_class *c, const block *b)
{
    tell_damage(s, c, b->object);
    uint64_t found = atomic_load_explicit(seal_of(b), memory_order_relaxed);
    if (requested_bytes(s, b, found) == SIZE_MAX)
        atomic_store_explicit(seal_of(b), seal_for(s, b->object, 0, FREED), memory_order_relaxed);
}

/* The place is empty: all that are get an object, if the system grants as many. Returns a place that has one now, if
 * any has. */
static NOINLINE uintptr_t *fill_pool(hardened_class *c, slabmalloc_sc *sc, uintptr_t *place)
{
    for (uint32_t i = 0; i < c->pool_count; i++)
        if (c->pool[i] == 0) {
            c->pool[i] = (uintptr_t)sc_allocate(sc);
            hold(c, c->pool[i] != 0);
        }
    for (uint32_t i = 0; *place == 0 && i < c->pool_count; i++)
        if (c->pool[i] != 0)
            place = &c->pool[i];
    return place;
}

/* Any of the pool, whose place another one takes; 0: the system refuses. */
static uintptr_t take_from_pool(hardened *extra, hardened_class *c, slabmalloc_sc *sc)
{
    uintptr_t *place = &c->pool[c->pool_next];
    c->pool_next = throw(extra, c->pool_count);
    __builtin_prefetch((const void *)c->pool[c->pool_next], 1);
    if (UNLIKELY(*place == 0)) {
        place = fill_pool(c, sc, place);
        if (*place == 0)
            return 0;
    }
    uintptr_t object = *place, spare = atomic_load_explicit(&c->spare, memory_order_relaxed);
    if (spare != 0) {
        atomic_store_explicit(&c->spare, 0, memory_order_relaxed);
        *place = spare;
        return object;
    }
    *place = (uintptr_t)sc_allocate(sc);
    if (UNLIKELY(*place == 0))
        hold(c, -1);
    return object;
}

/* Is it clean? Of a large one its ends are looked at, and some of what is between, another part each time: to read it
 * all would cost as much as to clear it. */
static bool is_clean(hardened *extra, uintptr_t object, size_t bytes)
{
    enum { END = 256, PART = 128, PARTS = 4 };
    if (LIKELY(bytes <= WHOLE_BYTES))
        return is_zero((const void *)object, bytes);
    bool is_clean = is_zero((const void *)object, END) && is_zero((const void *)(object + bytes - END), END);
    for (int i = 0; is_clean && i < PARTS; i++) {
        size_t place = (size_t)(random_next(&extra->random_state) >> 32) % (bytes / PART);
        is_clean = is_zero((const void *)(object + place * PART), PART);
    }
    return is_clean;
}

uintptr_t quarantine_take(heap *h, slabmalloc_sc *sc)
{
    hardened_class *c = &h->hardened->classes[sc->index];
    for (;;) {
        uintptr_t object = take_from_pool(h->hardened, c, sc);
        if (UNLIKELY(object == 0) || LIKELY(is_clean(h->hardened, object, sc->object_bytes)))
            return object;
        note_damage(h->space, c, &(block){.object = object, .bytes = sc->object_bytes});
    }
}

/* ---- through quarantine ----------------------------------------------------------------------------------- */

void quarantine_release(space *s, heap *h, slab *on, hardened_class *c, uintptr_t object)
{
    block b = {.object = object, .bytes = on->sc->geometry.object_bytes};
    if (LIKELY(atomic_load_explicit(seal_of(&b), memory_order_relaxed) == seal_for(s, object, 0, FREED))) {
        atomic_store_explicit(seal_of(&b), 0, memory_order_relaxed);
        bool is_own = h != NULL && LIKELY(on->sc->zone == h->view.zone);
        if (is_own && c != NULL && atomic_load_explicit(&c->spare, memory_order_relaxed) == 0) {
            atomic_store_explicit(&c->spare, object, memory_order_relaxed);
            return;
        }
        if (is_own && LIKELY(heap_free_quickly(on, object, false)))
            return;
        void *freed = (void *)object;
        if (LIKELY((h != NULL ? heap_release(h, freed) : heap_release_remote(s, freed)) == SLABMALLOC_OK))
            return;
    }
    note_damage(s, c, &b);
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
    uintptr_t *place = &c->quarantine[c->quarantine_next], leaving = *place;
    *place = object;
    c->quarantine_next = throw(h->hardened, c->quarantine_count);
    uintptr_t next = c->quarantine[c->quarantine_next];
    __builtin_prefetch((const void *)(next + (next != 0 ? on->sc->geometry.object_bytes - HARDENED_SEAL_BYTES : 0)), 1);
    if (UNLIKELY(leaving == 0)) {
        hold(c, 1);
        return;
    }
    release_from(s, h, c, leaving);
}

/* ---- none is kept back ------------------------------------------------------------------------------------ */

static void empty_quarantine(heap *h, hardened_class *c)
{
    for (uint32_t i = 0; i < c->quarantine_count; i++) {
        uintptr_t leaving = c->quarantine[i];
        if (leaving == 0)
            continue;
        c->quarantine[i] = 0;
        hold(c, -1);
        release_from(h->space, h, c, leaving);
    }
}

static void empty_pool(heap *h, hardened_class *c)
{
    uintptr_t spare = atomic_exchange_explicit(&c->spare, 0, memory_order_relaxed);
    if (spare != 0)
        heap_release(h, (void *)spare);
    for (uint32_t i = 0; i < c->pool_count; i++)
        if (c->pool[i] != 0) {
            heap_release(h, (void *)c->pool[i]);
            c->pool[i] = 0;
            hold(c, -1);
        }
}

void hardened_trim(heap *h)
{
    for (uint32_t i = 0; i < h->view.zone->classes.count; i++) {
        empty_quarantine(h, &h->hardened->classes[i]);
        empty_pool(h, &h->hardened->classes[i]);
    }
}
