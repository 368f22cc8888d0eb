/* SPDX-License-Identifier: MIT
 *
 * The hardened mode: see hardened.h for what a block is and the way that it goes. What is kept back of each class is in
 * quarantine.c.
 */
#include "heap/hardened.h"

#include "heap/quarantine.h"
#include "heap/seal.h"
#include "slab/pager.h"

/* ---- life ------------------------------------------------------------------------------------------------- */

/* Of an odd number, modulo 2^64: each step doubles the bits that are right, and 3 are to begin with. */
static uint64_t inverse_of(uint64_t odd)
{
    uint64_t inverse = odd;
    for (int right_bits = 3; right_bits < 64; right_bits *= 2)
        inverse *= 2 - odd * inverse;
    return inverse;
}

void hardened_init(space *s)
{
    /* A guard parts a mapping: as many as make half of those that a process can have, lest others get none. */
    s->guarded_bytes = os_most_mappings() / 4 * ARENA_UNIT_BYTES;
    space_secrets *secrets = &s->secrets;
    uint64_t words[] = {0, 0, 0, 0};
    os_random(words, sizeof(words) / sizeof(words[0]));
    uint64_t stride = words[2] | 1;
    *secrets = (space_secrets){.address = words[0], .state = words[1], .stride = stride, .inverse = inverse_of(stride)};
    /* What is written right behind a block is never 0: so the end of a string that is one too long is found. */
    secrets->fill = (words[3] >> 56 | 1) * UINT64_C(0x0101010101010101);
}

/* ---- allocate --------------------------------------------------------------------------------------------- */

void *hardened_allocate_quickly(heap *h, size_t bytes)
{
    if (UNLIKELY(bytes - 1 >= ZONE_SMALL_BYTES - HARDENED_SEAL_BYTES))
        return NULL;
    slabmalloc_sc *sc = heap_sc_of_small(&h->hardened->view, bytes + HARDENED_SEAL_BYTES);
    hardened_class *c = &h->hardened->classes[sc->index];
    block b = {.object = c->pool[c->pool_next], .bytes = sc->object_bytes};
    uintptr_t spare = atomic_load_explicit(&c->spare, memory_order_relaxed), next = sc->next;
    if (UNLIKELY(b.object == 0) ||
        UNLIKELY(spare == 0 && next == NO_SLOT && (next = sc_step(sc, sc->zone->cursors_lag)) == NO_SLOT) ||
        UNLIKELY(b.bytes > WHOLE_BYTES) || UNLIKELY(!is_zero((void *)b.object, b.bytes)))
        return NULL;
    uintptr_t *place = quarantine_next_in_pool(h, c);
    if (spare != 0) {
        atomic_store_explicit(&c->spare, 0, memory_order_relaxed);
        *place = spare;
        count_add(&sc->served, 1);
    } else
        *place = (uintptr_t)sc_allocate_next(sc, next);
    seal(h->space, &b, bytes);
    return (void *)b.object;
}

/* A large block gets `room` more. */
ALWAYS_INLINE void *allocate(heap *h, size_t bytes, size_t align, size_t room)
{
    if (UNLIKELY(bytes > SIZE_MAX / 2))
        return NULL;
    bytes = max_size(bytes, 1);
    size_t sealed = bytes + HARDENED_SEAL_BYTES;
    slabmalloc_zone *zone = h->view.zone;
    slabmalloc_sc *sc = align > HEAP_ALIGN_BYTES   ? zone_sc_slow(zone, sealed, align)
                        : sealed > zone->max_bytes ? NULL
                                                   : zone_sc_of_class(zone, zone_class_of_size(zone, sealed));
    block b = {.object = 0};
    if (LIKELY(sc != NULL)) {
        b.object = quarantine_take(h, sc); /* all of a class lie as its size does */
        b.bytes = sc->object_bytes;
    } else {
        bool is_zero = true;
        b.bytes = align_up(sealed + room, os_page_bytes());
        b.object = (uintptr_t)heap_allocate_large(h, b.bytes, max_size(align, HEAP_ALIGN_BYTES), &is_zero);
        if (UNLIKELY(!is_zero)) /* memory that is locked, and that the system did not take back */
            memset((void *)b.object, 0, b.bytes);
    }
    if (b.object != 0)
        seal(h->space, &b, bytes);
    return (void *)b.object;
}

/* Where the system refuses, the empty slabs that the heap kept for others of their class serve this one, and what is
 * kept back. */
static NOINLINE void *allocate_again(heap *h, size_t bytes, size_t align, size_t room)
{
    void *object = NULL;
    while (object == NULL && bytes <= HEAP_MEDIUM_BYTES && heap_yield(h))
        object = allocate(h, bytes, align, room);
    return object;
}

void *hardened_allocate(heap *h, size_t bytes, size_t align)
{
    void *object = LIKELY(align <= HEAP_ALIGN_BYTES) ? hardened_allocate_quickly(h, bytes) : NULL;
    if (UNLIKELY(object == NULL))
        object = allocate(h, bytes, align, 0);
    return LIKELY(object != NULL) ? object : allocate_again(h, bytes, align, 0);
}

/* Is a block of so many bytes known to be zero when it is served? Not in a long slot: only a part of that was looked
 * at, and whoever wrote to it after its free may have written elsewhere. A large block has fresh memory. */
static bool is_looked_at(const heap *h, size_t bytes)
{
    const slabmalloc_zone *zone = h->view.zone;
    size_t sealed = bytes + HARDENED_SEAL_BYTES;
    return sealed > zone->max_bytes || zone->classes->sizes[zone_class_of_size(zone, sealed)] <= WHOLE_BYTES;
}

void *hardened_allocate_zeroed(heap *h, size_t bytes)
{
    void *object = hardened_allocate(h, bytes, HEAP_ALIGN_BYTES);
    return object == NULL || is_looked_at(h, bytes) ? object : memset(object, 0, bytes);
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
    b->bytes = on->sc->geometry.object_bytes;
    return LIKELY(slab_slot_of(on, b->object).is_within) ? SLABMALLOC_OK : SLABMALLOC_FREE_INTERIOR;
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
    uint64_t key = seal_key(s, b->object);
    size_t bytes = requested_bytes(s, b, key, found);
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
    uint64_t freed = seal_freed(s, key);
    if (LIKELY(is_own))
        atomic_store_explicit(seal_of(b), freed, memory_order_relaxed);
    else if (!atomic_compare_exchange_strong_explicit(seal_of(b), &found, freed, memory_order_acq_rel,
                                                      memory_order_relaxed))
        return SLABMALLOC_FREE_DOUBLE;
    if (LIKELY(b->slab != NULL)) /* a large one goes as a whole */
        clear(b);
    return SLABMALLOC_OK;
}

bool hardened_free_quickly(heap *h, void *object)
{
    const space *s = h->space;
    const heap_view *view = &h->hardened->view;
    block b = {.object = (uintptr_t)object, .slab = heap_own_slab(view, (uintptr_t)object)};
    if (UNLIKELY(b.slab == NULL))
        return false;
    b.bytes = b.slab->sc->geometry.object_bytes;
    if (UNLIKELY(!slab_slot_of(b.slab, b.object).is_within))
        return false;
    uint64_t key = seal_key(s, b.object), found = atomic_load_explicit(seal_of(&b), memory_order_relaxed);
    size_t bytes = requested_bytes(s, &b, key, found);
    if (UNLIKELY(bytes == SIZE_MAX) || UNLIKELY(!is_whole(s, &b, bytes)) || UNLIKELY(!is_whole_before(s, &b)))
        return false;
    hardened_class *c = &h->hardened->classes[b.slab->sc->index];
    block leaving = {.object = *quarantine_next_out(c), .bytes = b.bytes};
    if (LIKELY(leaving.object != 0)) {
        leaving.slab = heap_own_slab(view, leaving.object);
        if (UNLIKELY(leaving.slab == NULL) || UNLIKELY(!quarantine_is_whole(s, &leaving)))
            return false;
    } else
        quarantine_hold(c, 1);
    quarantine_enter(h, c, b.object, b.bytes);
    atomic_store_explicit(seal_of(&b), seal_freed(s, key), memory_order_relaxed);
    clear(&b);
    if (LIKELY(leaving.object != 0))
        quarantine_release_own(h, c, &leaving);
    return true;
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
        quarantine_put(s, h, b.slab, b.object);
    else
        quarantine_release(s, NULL, b.slab, NULL, b.object);
    return SLABMALLOC_OK;
}

/* ---- what is there ---------------------------------------------------------------------------------------- */

size_t hardened_usable_bytes(space *s, const void *object)
{
    block b;
    if (find(s, object, &b) != SLABMALLOC_OK || (b.slab != NULL && heap_slab_is_nothing(b.slab)))
        return 0;
    size_t bytes = requested_bytes_now(s, &b);
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
        trace.bytes = requested_bytes_now(s, &b);
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
static size_t room_for(size_t bytes)
{
    enum { MOST = 8 << 20 };
    return min_size(bytes / 4, MOST);
}

/* Would a block of so many bytes have an object of the same size, or does a large one have the room? */
static bool is_in_place(const heap *h, const block *b, size_t bytes)
{
    const slabmalloc_zone *zone = h->view.zone;
    size_t sealed = bytes + HARDENED_SEAL_BYTES;
    if (b->slab == NULL)
        return sealed > zone->max_bytes && sealed <= b->bytes && b->bytes - sealed <= room_for(bytes) + os_page_bytes();
    return sealed <= zone->max_bytes && zone->classes->sizes[zone_class_of_size(zone, sealed)] == b->bytes;
}

/* What there is to keep of a live block, or *status says why it is none. */
static size_t kept_bytes(const space *s, const block *b, slabmalloc_status *status)
{
    uint64_t found = atomic_load_explicit(seal_of(b), memory_order_relaxed);
    size_t bytes = requested_bytes(s, b, seal_key(s, b->object), found);
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
    size_t room = bytes > before ? room_for(bytes) : 0;
    void *moved = allocate(h, bytes, HEAP_ALIGN_BYTES, room);
    if (UNLIKELY(moved == NULL))
        moved = allocate_again(h, bytes, HEAP_ALIGN_BYTES, room);
    if (moved == NULL)
        return bytes <= before ? heap_left_roomy(h->space, object) : NULL;
    memcpy(moved, object, min_size(before, bytes));
    *status = hardened_free(h->space, h, object);
    return moved;
}
