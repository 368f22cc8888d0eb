/* SPDX-License-Identifier: MIT
 *
 * The hardened mode: see hardened.h for what a block is and the way that it goes.
 */
#include "heap/hardened.h"

#include <string.h>

#include "base/check.h"

/* What a class may hold in its pool and in quarantine: so many bytes, within these numbers of objects. */
enum { POOL_BYTES = 16 * 1024, POOL_LEAST = 2, QUARANTINE_BYTES = 64 * 1024, QUARANTINE_LEAST = 4, FILL_BYTES = 32 };

/* The slack of an object is less than a medium page, and of a large one less than an OS page. */
enum { SLACK_BITS = 24 };
#define SLACK_MASK ((UINT64_C(1) << SLACK_BITS) - 1)

enum { LIVE = 1, FREED = 2 };

_Static_assert(HEAP_MEDIUM_PAGE_BYTES <= SLACK_MASK, "a slack fits its bits");

/* ---- seals ------------------------------------------------------------------------------------------------ */

typedef struct block {
    uintptr_t object;
    size_t bytes; /* of the object */
    slab *slab;   /* NULL: it is a large one */
} block;

static _Atomic uint64_t *seal_of(const block *b)
{
    return (_Atomic uint64_t *)(b->object + b->bytes - HARDENED_SEAL_BYTES);
}

static uint64_t fold(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    uint64_t state = a + hash_multiply(b);
    return random_next(&state) ^ hash_multiply(state ^ b);
#endif
}

static uint64_t seal_for(const space *s, uintptr_t object, size_t slack, unsigned state)
{
    uint64_t hash = fold(object ^ s->secrets[0], ((uint64_t)slack << 2 | state) ^ s->secrets[1]);
    return (hash & ~SLACK_MASK) | slack;
}

/* ---- the slack's first bytes ------------------------------------------------------------------------------- */

static uint64_t load(const char *from, size_t bytes)
{
    uint64_t value = 0;
    memcpy(&value, from, bytes);
    return value;
}

static uint64_t fill_of(const space *s) { return (s->secrets[0] >> 56 | 1) * UINT64_C(0x0101010101010101); }

/* Words that overlap, all bytes of `fill` being the same: this is on every path, and short. */
static void fill_slack(char *slack, size_t bytes, uint64_t fill)
{
    if (bytes >= 8) {
        bytes = min_size(bytes, FILL_BYTES);
        memcpy(slack, &fill, 8);
        memcpy(slack + bytes - 8, &fill, 8);
        if (bytes > 16) {
            memcpy(slack + 8, &fill, 8);
            memcpy(slack + bytes - 16, &fill, 8);
        }
    } else if (bytes >= 4) {
        memcpy(slack, &fill, 4);
        memcpy(slack + bytes - 4, &fill, 4);
    } else if (bytes > 0) {
        slack[0] = slack[bytes / 2] = slack[bytes - 1] = (char)fill;
    }
}

static bool is_filled(const char *slack, size_t bytes, uint64_t fill)
{
    if (bytes >= 8) {
        bytes = min_size(bytes, FILL_BYTES);
        uint64_t wrong = (load(slack, 8) ^ fill) | (load(slack + bytes - 8, 8) ^ fill);
        if (bytes > 16)
            wrong |= (load(slack + 8, 8) ^ fill) | (load(slack + bytes - 16, 8) ^ fill);
        return wrong == 0;
    }
    if (bytes >= 4)
        return ((load(slack, 4) ^ load(slack + bytes - 4, 4)) | (load(slack, 4) ^ (fill & UINT32_MAX))) == 0;
    return bytes == 0 || (slack[0] == (char)fill && slack[bytes / 2] == (char)fill && slack[bytes - 1] == (char)fill);
}

/* ---- blocks ----------------------------------------------------------------------------------------------- */

static void seal(const space *s, const block *b, size_t bytes)
{
    size_t slack = b->bytes - HARDENED_SEAL_BYTES - bytes;
    fill_slack((char *)b->object + bytes, slack, fill_of(s));
    atomic_store_explicit(seal_of(b), seal_for(s, b->object, slack, LIVE), memory_order_relaxed);
}

/* The bytes that were asked for; SIZE_MAX: it is not sealed as live. */
static size_t requested_bytes(const space *s, const block *b, uint64_t found)
{
    size_t slack = (size_t)(found & SLACK_MASK), room = b->bytes - HARDENED_SEAL_BYTES;
    return slack <= room && found == seal_for(s, b->object, slack, LIVE) ? room - slack : SIZE_MAX;
}

/* What is wrong with a block that is not sealed as live. */
static slabmalloc_status fault_of(const space *s, const block *b, uint64_t found)
{
    return found == 0 || found == seal_for(s, b->object, 0, FREED) ? SLABMALLOC_FREE_DOUBLE : SLABMALLOC_FREE_OVERFLOWN;
}

/* `memory` and `bytes` are multiples of 16. */
static bool is_zero(const void *memory, size_t bytes)
{
    typedef uint64_t pair __attribute__((vector_size(16), may_alias));
    const pair *at = memory, *end = (const pair *)((const char *)memory + bytes);
    pair found = *at++;
    while (at < end)
        found |= *at++;
    return (found[0] | found[1]) == 0;
}

/* Is it clean? Of a large one its ends are looked at, and some of what is between, another part each time: to read it all
 * would cost as much as to clear it. */
static bool is_clean(hardened *extra, uintptr_t object, size_t bytes)
{
    enum { WHOLE = 1024, END = 256, PART = 128, PARTS = 4 };
    if (LIKELY(bytes <= WHOLE))
        return is_zero((const void *)object, bytes);
    bool is_clean = is_zero((const void *)object, END) && is_zero((const void *)(object + bytes - END), END);
    for (int i = 0; is_clean && i < PARTS; i++) {
        size_t place = (size_t)(random_next(&extra->random_state) >> 32) % (bytes / PART);
        is_clean = is_zero((const void *)(object + place * PART), PART);
    }
    return is_clean;
}

static void note_damage(space *s, uintptr_t object)
{
    atomic_fetch_add_explicit(&s->damages, 1, memory_order_relaxed);
    if (s->options.damaged != NULL)
        s->options.damaged(s, (const void *)object);
}

/* ---- life ------------------------------------------------------------------------------------------------- */

void hardened_init(space *s) { os_random(s->secrets, sizeof(s->secrets) / sizeof(s->secrets[0])); }

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
    extra->random_state = fold(h->space->secrets[1] ^ (uintptr_t)h, space_clock_ns() | 1) | 1;
    const slabmalloc_size_classes *classes = &h->view.zone->classes;
    for (uint32_t i = 0; i < classes->count; i++) {
        hardened_class *c = &extra->classes[i];
        c->pool_count = share(POOL_BYTES, classes->sizes[i], POOL_LEAST, HARDENED_POOL_MOST);
        c->quarantine_count = share(QUARANTINE_BYTES, classes->sizes[i], QUARANTINE_LEAST, HARDENED_QUARANTINE_MOST);
    }
}

static uint32_t throw(hardened *extra, uint32_t count)
{
    return (uint32_t)(random_next(&extra->random_state) >> 32) & (count - 1);
}

/* ---- allocate --------------------------------------------------------------------------------------------- */

/* Memory is short: any that the pool still has. */
static uintptr_t take_last(hardened_class *c)
{
    for (uint32_t i = 0; i < c->pool_count; i++)
        if (c->pool[i] != 0) {
            uintptr_t object = c->pool[i];
            c->pool[i] = 0;
            return object;
        }
    return 0;
}

static NOINLINE uintptr_t fill_pool(hardened_class *c, slabmalloc_sc *sc)
{
    for (uint32_t i = 0; i < c->pool_count; i++)
        if (c->pool[i] == 0)
            c->pool[i] = (uintptr_t)sc_allocate(sc);
    return take_last(c);
}

static uintptr_t take_from_pool(heap *h, slabmalloc_sc *sc)
{
    hardened_class *c = &h->hardened->classes[sc->index];
    uintptr_t *place = &c->pool[c->pool_next], object = *place;
    c->pool_next = throw(h->hardened, c->pool_count);
    __builtin_prefetch((const void *)c->pool[c->pool_next], 1);
    if (UNLIKELY(object == 0))
        return fill_pool(c, sc);
    *place = (uintptr_t)sc_allocate(sc);
    return object;
}

/* A clean object of the class; 0: the system refuses. What was written to after its free is left alone for ever. */
static uintptr_t take_clean(heap *h, slabmalloc_sc *sc, bool is_pooled)
{
    for (;;) {
        uintptr_t object = is_pooled ? take_from_pool(h, sc) : (uintptr_t)sc_allocate(sc);
        if (object == 0 || LIKELY(is_clean(h->hardened, object, sc->object_bytes)))
            return object;
        note_damage(h->space, object);
    }
}

void *hardened_allocate(heap *h, size_t bytes, size_t align)
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
        b.object = take_clean(h, sc, align <= HEAP_ALIGN_BYTES);
        b.bytes = sc->object_bytes;
    } else {
        bool is_zero;
        b.object = (uintptr_t)large_allocate(&h->space->large, sealed, max_size(align, HEAP_ALIGN_BYTES), &is_zero);
        b.bytes = align_up(sealed, os_page_bytes());
    }
    if (b.object != 0)
        seal(h->space, &b, bytes);
    return (void *)b.object;
}

/* ---- free ------------------------------------------------------------------------------------------------- */

/* The object that begins at the address, on a page of this slab or, if that is NULL, a large one. */
static slabmalloc_status find_in(space *s, slab *on, const void *address, block *b)
{
    *b = (block){.object = (uintptr_t)address, .slab = on};
    if (UNLIKELY(on == NULL)) {
        b->bytes = large_usable_bytes(&s->large, address);
        return b->bytes == 0 ? SLABMALLOC_FREE_FOREIGN : SLABMALLOC_OK;
    }
    const slab_geometry *g = &on->sc->geometry;
    b->bytes = g->object_bytes;
    return LIKELY(sc_slot_at(g, b->object & on->sc->offset_mask) < g->capacity) ? SLABMALLOC_OK
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
    if (UNLIKELY(!is_filled((char *)b->object + bytes, b->bytes - HARDENED_SEAL_BYTES - bytes, fill_of(s))))
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

/* From quarantined to clean, and to its slab. */
static void release(space *s, heap *h, uintptr_t object)
{
    slab *own = h != NULL ? heap_own_slab(&h->hardened->view, object) : NULL;
    block b;
    slabmalloc_status status = find_in(s, own != NULL ? own : space_slab_at(s, object), (const void *)object, &b);
    if (status == SLABMALLOC_OK &&
        LIKELY(atomic_load_explicit(seal_of(&b), memory_order_relaxed) == seal_for(s, object, 0, FREED))) {
        atomic_store_explicit(seal_of(&b), 0, memory_order_relaxed);
        if (LIKELY(own != NULL && heap_free_quickly(own, object)))
            return;
        status = h != NULL ? heap_release(h, (void *)object) : heap_release_remote(s, (void *)object);
        if (LIKELY(status == SLABMALLOC_OK))
            return;
    }
    note_damage(s, object);
}

/* The block, which is quarantined, takes the place of another; returns that one, or 0. */
static uintptr_t push_out(heap *h, const block *b)
{
    hardened_class *c = &h->hardened->classes[b->slab->sc->index];
    uintptr_t *place = &c->quarantine[c->quarantine_next], leaving = *place;
    *place = b->object;
    c->quarantine_next = throw(h->hardened, c->quarantine_count);
    uintptr_t next = c->quarantine[c->quarantine_next];
    __builtin_prefetch((const void *)(next + (next != 0 ? b->bytes - HARDENED_SEAL_BYTES : 0)), 1);
    return leaving;
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
    uintptr_t leaving = LIKELY(h != NULL) ? push_out(h, &b) : b.object;
    if (LIKELY(leaving != 0))
        release(s, h, leaving);
    return SLABMALLOC_OK;
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

/* ---- resize ----------------------------------------------------------------------------------------------- */

/* Would a block of so many bytes have an object of the same size? */
static bool is_in_place(const heap *h, const block *b, size_t bytes)
{
    size_t sealed = bytes + HARDENED_SEAL_BYTES;
    if (b->slab == NULL)
        return sealed > h->view.zone->max_bytes && align_up(sealed, os_page_bytes()) == b->bytes;
    return sealed <= h->view.zone->max_bytes && zone_sc_of_size(h->view.zone, sealed)->object_bytes == b->bytes;
}

void *hardened_reallocate(heap *h, void *object, size_t bytes, slabmalloc_status *status)
{
    block b;
    *status = find(h->space, object, &b);
    if (*status != SLABMALLOC_OK)
        return NULL;
    uint64_t found = atomic_load_explicit(seal_of(&b), memory_order_relaxed);
    size_t before = requested_bytes(h->space, &b, found);
    if (before == SIZE_MAX) {
        *status = fault_of(h->space, &b, found);
        return NULL;
    }
    bytes = max_size(bytes, 1);
    if (bytes <= SIZE_MAX / 2 && is_in_place(h, &b, bytes)) {
        size_t slack = b.bytes - HARDENED_SEAL_BYTES - before, kept = min_size(before, bytes);
        if (!is_filled((char *)object + before, slack, fill_of(h->space))) {
            *status = SLABMALLOC_FREE_OVERFLOWN;
            return NULL;
        }
        memset((char *)object + kept, 0, b.bytes - HARDENED_SEAL_BYTES - kept);
        seal(h->space, &b, bytes);
        return object;
    }
    void *moved = hardened_allocate(h, bytes, HEAP_ALIGN_BYTES);
    if (moved == NULL)
        return bytes <= before ? heap_left_roomy(h, object) : NULL;
    memcpy(moved, object, min_size(before, bytes));
    *status = hardened_free(h->space, h, object);
    return moved;
}
