/* SPDX-License-Identifier: MIT
 *
 * What a hardened heap keeps back of each class, floor 3: the pools from which objects are served at random, and those
 * in quarantine, which leave it at random. The states that they are in: hardened.h; what a seal is: seal.h.
 */
#ifndef SLABMALLOC_HEAP_QUARANTINE_H
#define SLABMALLOC_HEAP_QUARANTINE_H

#include "heap/seal.h"

/* Objects up to here are looked at as a whole before they are served. */
enum { WHOLE_BYTES = 1024 };

/* ---- how it is chosen ------------------------------------------------------------------------------------- */

/* The next of a sequence of pseudo-random words, which follows from the secrets. [owner] */
ALWAYS_INLINE uint64_t quarantine_random(heap *h)
{
    uint64_t state = h->hardened->random_state += h->space->secrets.stride;
    return fold(state, state ^ h->space->secrets.address);
}

/* Objects that are live to the heap, and nobody's: what there is in the pool and in quarantine, and what was damaged
 * there. */
ALWAYS_INLINE void quarantine_hold(hardened_class *c, int more)
{
    uint32_t held_count = atomic_load_explicit(&c->held_count, memory_order_relaxed) + (uint32_t)more;
    atomic_store_explicit(&c->held_count, held_count, memory_order_relaxed);
}

/* ---- from the pool ---------------------------------------------------------------------------------------- */

/* The place in the pool whose object goes out next, from here on another one. */
ALWAYS_INLINE uintptr_t *quarantine_next_in_pool(heap *h, hardened_class *c)
{
    uintptr_t *place = &c->pool[c->pool_next];
    c->pool_next = (uint32_t)quarantine_random(h) & c->pool_mask;
    __builtin_prefetch((const void *)c->pool[c->pool_next], 1);
    return place;
}

/* A clean object of the class; 0: the system refuses. What was written to after its free is left alone for ever.
 * [owner] */
uintptr_t quarantine_take(heap *h, slabmalloc_sc *sc);

/* ---- through quarantine ----------------------------------------------------------------------------------- */

/* The place whose object leaves next, for the one that is freed next. */
ALWAYS_INLINE uintptr_t *quarantine_next_out(const hardened_class *c) { return &c->quarantine[c->quarantine_next]; }

/* Puts an object, sealed as freed, in that place; another one is next. [owner] */
ALWAYS_INLINE void quarantine_enter(heap *h, hardened_class *c, uintptr_t object, size_t object_bytes)
{
    *quarantine_next_out(c) = object;
    c->quarantine_next = (uint32_t)quarantine_random(h) & c->quarantine_mask;
    uintptr_t seal = *quarantine_next_out(c) + object_bytes - HARDENED_SEAL_BYTES;
    __builtin_prefetch((const void *)seal, 1); /* no harm if there is none */
}

/* The rest of quarantine_release_own where it is not quick. [owner] */
NOINLINE void quarantine_release_slowly(heap *h, hardened_class *c, slab *on, uintptr_t object);

/* Is what leaves quarantine sealed as freed still? Else it was written to. */
ALWAYS_INLINE bool quarantine_is_whole(const space *s, const block *b)
{
    return atomic_load_explicit(seal_of(b), memory_order_relaxed) == seal_freed(s, seal_key(s, b->object));
}

/* What has left quarantine, and is whole, goes to the pool or to its slab, a plain one of the heap itself. That may run
 * a tick, and so hardened_trim: so by then the object must be in no place any more. [owner] */
ALWAYS_INLINE void quarantine_release_own(heap *h, hardened_class *c, const block *b)
{
    atomic_store_explicit(seal_of(b), 0, memory_order_relaxed);
    if (atomic_load_explicit(&c->spare, memory_order_relaxed) == 0)
        atomic_store_explicit(&c->spare, b->object, memory_order_relaxed);
    else if (UNLIKELY(!heap_free_quickly(b->slab, b->object, false)))
        quarantine_release_slowly(h, c, b->slab, b->object);
}

/* An object, sealed as freed, takes a place in quarantine, and what was there goes on its way. [owner] */
void quarantine_put(space *s, heap *h, slab *on, uintptr_t object);
/* From quarantined to clean, and to the slab that has it. `c`: where it was in quarantine, or NULL. `h`: the caller's
 * heap, or NULL. */
void quarantine_release(space *s, heap *h, slab *on, hardened_class *c, uintptr_t object);

#endif
