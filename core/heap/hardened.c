/* SPDX-License-Identifier: MIT
 *
 * The hardened mode: see hardened.h for what a block is and the way that it goes.
 */
#include "heap/hardened.h"

#include "base/check.h"
#include "heap/seal.h"
#include "slab/pager.h"

/* What a class may hold in its pool and in quarantine: so many bytes, within these numbers of objects. */
enum { POOL_BYTES = 16 * 1024, POOL_LEAST = 2, QUARANTINE_BYTES = 64 * 1024, QUARANTINE_LEAST = 4 };

/* Objects up to here are looked at as a whole before they are served. */
enum { WHOLE_BYTES = 1024 };

/* Is it clean? Of a large one its ends are looked at, and some of what is between, another part each time: to read it all
 * would cost as much as to clear it. */
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

/* Objects that are live to the heap, and nobody's: what there is in the pool and in quarantine, and what was damaged there. */
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

/* The same of an object that is still there: it is nobody's for ever, and its neighbours hear no more of it. (Unless it was
 * freed twice at once, and somebody has it by now.) */
static void note_damage(space *s, hardened_class *c, const block *b)
{
    tell_damage(s, c, b->object);
    uint64_t found = atomic_load_explicit(seal_of(b), memory_order_relaxed);
    if (requested_bytes(s, b, found) == SIZE_MAX)
        atomic_store_explicit(seal_of(b), seal_for(s, b->object, 0, FREED), memory_order_relaxed);
}

/* ---- life ------------------------------------------------------------------------------------------------- */

void hardened_init(space *s)
{
    /* A guard parts a mapping: as many as make half of those that a process can have, lest others get none. */
    s->guarded_bytes = os_most_mappings() / 4 * ARENA_UNIT_BYTES;
    space_secrets *secrets = &s->secrets;
    uint64_t words[] = {0, 0, 0, 0};
    os_random(words, sizeof(words) / sizeof(words[0]));
    *secrets = (space_secrets){.address = words[0], .state = words[1], .slack = words[2], .fill = words[3]};
    /* What is written right behind a block is never 0: so the end of a string that is one too long is found. */
    secrets->slack = (secrets->slack & SLACK_MASK) | 1;
    secrets->fill = (secrets->fill >> 56 | 1) * UINT64_C(0x0101010101010101);
}

/* The largest power of two that is not above bytes / object_bytes, but within the limits. */
static uint32_t share(size_t bytes, size_t object_bytes, size_t least, size_t most)
{
    size_t count = least;
    while (count * 2 <= most && count * 2 * object_bytes <= bytes)
        count *= 2;
    return (uint32_t)count;
}

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

/* ---- allocate --------------------------------------------------------------------------------------------- */

/* The place is empty: all that are get an object, if the system grants as many. Returns a place that has one now, if any
 * has. */
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

/* A clean object of the class; 0: the system refuses. What was written to after its free is left alone for ever. */
static uintptr_t take_clean(heap *h, slabmalloc_sc *sc)
{
    hardened_class *c = &h->hardened->classes[sc->index];
    for (;;) {
        uintptr_t object = take_from_pool(h->hardened, c, sc);
        if (UNLIKELY(object == 0) || LIKELY(is_clean(h->hardened, object, sc->object_bytes)))
            return object;
        note_damage(h->space, c, &(block){.object = object, .bytes = sc->object_bytes});
    }
}

/* A large block gets `room` more. */
ALWAYS_INLINE void *allocate(heap *h, size_t bytes, size_t align, size_t room)
{
    if (UNLIKELY(bytes > SIZE_MAX / 2))
        return NULL;
    bytes = max_size(bytes, 1);
    size_t sealed = bytes + HARDENED_SEAL_BYTES;
    slabmalloc_zone *zone = h->view.zone;
    slabmalloc_sc *sc = align > HEAP_ALIGN_BYTES   ? zone_sc(zone, sealed, align)
                        : sealed > zone->max_bytes ? NULL
                                                   : zone_sc_of_size(zone, sealed);
    block b = {.object = 0};
    if (LIKELY(sc != NULL)) {
        b.object = take_clean(h, sc); /* all of a class lie as its size does */
        b.bytes = sc->object_bytes;
    } else {
        bool is_zero = true;
        b.bytes = align_up(sealed + room, os_page_bytes());
        b.object = (uintptr_t)large_allocate(&h->space->large, b.bytes, max_size(align, HEAP_ALIGN_BYTES), &is_zero);
        if (UNLIKELY(!is_zero)) /* memory that is locked, and that the system did not take back */
            memset((void *)b.object, 0, b.bytes);
    }
    if (b.object != 0)
        seal(h->space, &b, bytes);
    return (void *)b.object;
}

void *hardened_allocate(heap *h, size_t bytes, size_t align) { return allocate(h, bytes, align, 0); }

void *hardened_allocate_zeroed(heap *h, size_t bytes)
{
    void *object = hardened_allocate(h, bytes, HEAP_ALIGN_BYTES);
    /* Whoever wrote to it after its free may have written where nobody looked. */
    return object == NULL || bytes <= WHOLE_BYTES / 2 || bytes > HEAP_MEDIUM_BYTES ? object : memset(object, 0, bytes);
}

/* ---- free ------------------------------------------------------------------------------------------------- */

/* The object that begins at the address, on a page of this slab or, if that is NULL, a large one. */
ALWAYS_INLINE slabmalloc_status find_in(space *s, slab *on, const void *address, block *b)
{
    *b = (block){.object = (uintptr_t)address, .slab = on};
    if (UNLIKELY(on == NULL)) {
        b->bytes = large_usable_bytes(&s->large, address);
        return b->bytes == 0 ? SLABMALLOC_FREE_FOREIGN : SLABMALLOC_OK;
    }
    const slab_geometry *g = &on->sc->geometry;
    b->bytes = g->object_bytes;
    return LIKELY(sc_slot_at(g, b->object & on->sc->offset_mask) != SIZE_MAX) ? SLABMALLOC_OK
                                                                              : SLABMALLOC_FREE_INTERIOR;
}

static slabmalloc_status find(space *s, const void *address, block *b)
{
    return find_in(s, space_slab_at(s, (uintptr_t)address), address, b);
}

/* From live to quarantined. `is_own`: nobody else frees the object but who is wrong, and he is found when it is
 * released; so the owner is spared the atomic operation. */
static slabmalloc_status unseal(space *s, const block *b, bool is_own)
{
    uint64_t found = atomic_load_explicit(seal_of(b), memory_order_relaxed);
    size_t bytes = requested_bytes(s, b, found);
    if (UNLIKELY(bytes == SIZE_MAX))
        return fault_of(s, b, found);
    if (UNLIKELY(!is_whole(s, b, bytes))) {
        /* Or another thread has just freed it, and cleared it. */
        atomic_thread_fence(memory_order_acquire);
        return atomic_load_explicit(seal_of(b), memory_order_relaxed) == found ? SLABMALLOC_FREE_OVERFLOWN
                                                                               : SLABMALLOC_FREE_DOUBLE;
    }
    if (UNLIKELY(b->slab != NULL && !is_whole_before(s, b)))
        return SLABMALLOC_FREE_OVERFLOWN;
    uint64_t freed = seal_for(s, b->object, 0, FREED);
    if (LIKELY(is_own))
        atomic_store_explicit(seal_of(b), freed, memory_order_relaxed);
    else if (!atomic_compare_exchange_strong_explicit(seal_of(b), &found, freed, memory_order_acq_rel,
                                                      memory_order_relaxed))
        return SLABMALLOC_FREE_DOUBLE;
    if (LIKELY(b->slab != NULL)) /* a large one goes as a whole */
        memset((void *)b->object, 0, b->bytes - HARDENED_SEAL_BYTES);
    return SLABMALLOC_OK;
}

/* From quarantined to clean, and to the slab that has it. `c`: where it was in quarantine, or NULL. */
static void release(space *s, heap *h, slab *on, hardened_class *c, uintptr_t object)
{
    block b = {.object = object, .bytes = on->sc->geometry.object_bytes};
    if (LIKELY(atomic_load_explicit(seal_of(&b), memory_order_relaxed) == seal_for(s, object, 0, FREED))) {
        atomic_store_explicit(seal_of(&b), 0, memory_order_relaxed);
        bool is_own = h != NULL && LIKELY(on->sc->zone == h->view.zone);
        if (is_own && c != NULL && atomic_load_explicit(&c->spare, memory_order_relaxed) == 0) {
            atomic_store_explicit(&c->spare, object, memory_order_relaxed);
            return;
        }
        if (is_own && LIKELY(heap_free_quickly(on, object)))
            return;
        void *freed = (void *)object;
        if (LIKELY((h != NULL ? heap_release(h, freed) : heap_release_remote(s, freed)) == SLABMALLOC_OK))
            return;
    }
    note_damage(s, c, &b);
}

/* The same of what was in quarantine. A slab stays as long as one of its objects is not free: unless that was freed twice
 * at once. */
ALWAYS_INLINE void release_from(space *s, heap *h, hardened_class *c, uintptr_t leaving)
{
    slab *on = heap_own_slab(&h->hardened->view, leaving);
    if (UNLIKELY(on == NULL))
        on = space_slab_at(s, leaving);
    if (LIKELY(on != NULL))
        release(s, h, on, c, leaving);
    else
        tell_damage(s, c, leaving);
}

/* The block takes a place in quarantine, and what was there goes on its way. */
static void quarantine(space *s, heap *h, const block *b)
{
    hardened_class *c = &h->hardened->classes[b->slab->sc->index];
    uintptr_t *place = &c->quarantine[c->quarantine_next], leaving = *place;
    *place = b->object;
    c->quarantine_next = throw(h->hardened, c->quarantine_count);
    uintptr_t next = c->quarantine[c->quarantine_next];
    __builtin_prefetch((const void *)(next + (next != 0 ? b->bytes - HARDENED_SEAL_BYTES : 0)), 1);
    if (UNLIKELY(leaving == 0)) {
        hold(c, 1);
        return;
    }
    release_from(s, h, c, leaving);
}

slabmalloc_status hardened_free(space *s, heap *h, void *object)
{
    block b;
    slab *own = h != NULL ? heap_own_slab(&h->hardened->view, (uintptr_t)object) : NULL;
    slabmalloc_status status = find_in(s, own != NULL ? own : space_slab_at(s, (uintptr_t)object), object, &b);
    if (UNLIKELY(own == NULL && b.slab != NULL && heap_slab_is_nothing(b.slab)))
        return status == SLABMALLOC_OK ? heap_release_remote(s, object) : status;
    if (LIKELY(status == SLABMALLOC_OK))
        status = unseal(s, &b, own != NULL);
    if (UNLIKELY(status != SLABMALLOC_OK))
        return status;
    if (UNLIKELY(b.slab == NULL))
        return heap_release_remote(s, object);
    if (LIKELY(h != NULL))
        quarantine(s, h, &b);
    else
        release(s, NULL, b.slab, NULL, b.object);
    return SLABMALLOC_OK;
}

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

/* ---- what is there ---------------------------------------------------------------------------------------- */

size_t hardened_usable_bytes(space *s, const void *object)
{
    block b;
    if (find(s, object, &b) != SLABMALLOC_OK || (b.slab != NULL && heap_slab_is_nothing(b.slab)))
        return 0;
    size_t bytes = requested_bytes(s, &b, atomic_load_explicit(seal_of(&b), memory_order_relaxed));
    return bytes == SIZE_MAX ? 0 : bytes;
}

bool hardened_is_freed(space *s, const void *object)
{
    block b;
    return find(s, object, &b) == SLABMALLOC_OK &&
           fault_of(s, &b, atomic_load_explicit(seal_of(&b), memory_order_relaxed)) == SLABMALLOC_FREE_DOUBLE;
}

hardened_trace hardened_trace_of(space *s, const void *object, bool is_freed)
{
    block b;
    hardened_trace trace = {.bytes = SIZE_MAX, .changed = SIZE_MAX};
    if (find(s, object, &b) != SLABMALLOC_OK)
        return trace;
    const unsigned char *at = object;
    size_t end = b.bytes - HARDENED_SEAL_BYTES, begin = 0;
    uint64_t expected = 0;
    if (!is_freed) {
        trace.bytes = requested_bytes(s, &b, atomic_load_explicit(seal_of(&b), memory_order_relaxed));
        begin = min_size(trace.bytes, end); /* whose slack is it, if nobody knows where it begins? */
        end = min_size(end, begin + FILL_BYTES);
        expected = s->secrets.fill & UINT8_MAX;
    }
    while (begin < end && at[begin] == expected)
        begin++;
    if (begin < end || trace.bytes == SIZE_MAX)
        trace.changed = begin;
    trace.is_before = !is_freed && trace.changed == SIZE_MAX && b.slab != NULL && !is_whole_before(s, &b);
    return trace;
}

/* ---- resize ----------------------------------------------------------------------------------------------- */

/* A large block that grows gets a quarter more, so that one which grows by small steps is not copied at each. */
static size_t room_for(size_t bytes) { return min_size(bytes / 4, SLACK_MASK / 2); }

/* Would a block of so many bytes have an object of the same size, or does a large one have the room? */
static bool is_in_place(const heap *h, const block *b, size_t bytes)
{
    size_t sealed = bytes + HARDENED_SEAL_BYTES;
    if (b->slab == NULL)
        return sealed > h->view.zone->max_bytes && sealed <= b->bytes &&
               b->bytes - sealed <= room_for(bytes) + os_page_bytes();
    return sealed <= h->view.zone->max_bytes && zone_sc_of_size(h->view.zone, sealed)->object_bytes == b->bytes;
}

/* What there is to keep of a live block, or *status says why it is none. */
static size_t kept_bytes(const space *s, const block *b, slabmalloc_status *status)
{
    uint64_t found = atomic_load_explicit(seal_of(b), memory_order_relaxed);
    size_t bytes = requested_bytes(s, b, found);
    if (bytes == SIZE_MAX)
        *status = fault_of(s, b, found);
    else if (!is_whole(s, b, bytes))
        *status = SLABMALLOC_FREE_OVERFLOWN;
    return bytes;
}

void *hardened_reallocate(heap *h, void *object, size_t bytes, slabmalloc_status *status)
{
    block b;
    *status = find(h->space, object, &b);
    if (*status == SLABMALLOC_OK && b.slab != NULL && heap_slab_is_nothing(b.slab))
        *status = SLABMALLOC_FREE_DOUBLE; /* heap_reallocate has seen that it is not live */
    size_t before = *status == SLABMALLOC_OK ? kept_bytes(h->space, &b, status) : 0;
    if (*status != SLABMALLOC_OK)
        return NULL;
    bytes = max_size(bytes, 1);
    if (bytes <= SIZE_MAX / 2 && is_in_place(h, &b, bytes)) {
        /* Behind the slack's first bytes it is zero already. */
        size_t kept = min_size(before, bytes), end = min_size(before + FILL_BYTES, b.bytes - HARDENED_SEAL_BYTES);
        memset((char *)object + kept, 0, end - kept);
        seal(h->space, &b, bytes);
        return object;
    }
    void *moved = allocate(h, bytes, HEAP_ALIGN_BYTES, bytes > before ? room_for(bytes) : 0);
    if (moved == NULL)
        return bytes <= before ? heap_left_roomy(h->space, object) : NULL;
    memcpy(moved, object, min_size(before, bytes));
    *status = hardened_free(h->space, h, object);
    return moved;
}
