/* SPDX-License-Identifier: MIT
 *
 * What the tests with threads share: objects in memory of known place with a state for every granule, rings from one
 * sender to one receiver, and the check that a zone is whole once all threads have returned.
 *
 * Every object is written without atomics by whoever holds it, so that ThreadSanitizer sees any ordering that the
 * allocator does not give; every slot's state is atomic but relaxed, so that the test gives none itself.
 */
#ifndef THREADS_H
#define THREADS_H

#include "fixture.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

enum { SLOT_FREE = 0, SLOT_LIVE = 1, RING = 512, MAX_FREERS = 4, ARENA_PAGE = 65536, ARENA_PAGES = 24 };

/* ---- objects in a memory of known place, a state for every granule ---- */

typedef struct arena {
    char *base;
    atomic_uchar *states;
} arena;

static inline arena arena_new(void)
{
    arena a = {memory_new((size_t)ARENA_PAGE * ARENA_PAGES, ARENA_PAGE),
               calloc((size_t)ARENA_PAGE * ARENA_PAGES / 8, 1)};
    REQUIRE(a.states != NULL);
    return a;
}

static inline void arena_end(arena *a)
{
    for (size_t i = 0; i < (size_t)ARENA_PAGE * ARENA_PAGES / 8; i++)
        if (!CHECK_EQUAL(atomic_load_explicit(&a->states[i], memory_order_relaxed), SLOT_FREE))
            break;
    memory_free(a->base, (size_t)ARENA_PAGE * ARENA_PAGES);
    free(a->states);
}

static inline atomic_uchar *state_of(const arena *a, const void *object)
{
    return &a->states[(size_t)((const char *)object - a->base) / 8];
}

/* The thread that just got `object` marks and writes it. */
static inline void take(const arena *a, void *object, size_t size, unsigned char pattern)
{
    CHECK_EQUAL(atomic_exchange_explicit(state_of(a, object), SLOT_LIVE, memory_order_relaxed), SLOT_FREE);
    memset(object, pattern, size);
}

/* The thread that is about to free it reads, writes and unmarks it. */
static inline void drop(const arena *a, void *object, size_t size)
{
    const unsigned char *bytes = object;
    CHECK_EQUAL(bytes[0], bytes[size - 1]);
    memset(object, 0xDD, size);
    CHECK_EQUAL(atomic_exchange_explicit(state_of(a, object), SLOT_FREE, memory_order_relaxed), SLOT_LIVE);
}

/* ---- one sender, one receiver ---- */

typedef struct ring {
    void *items[RING];
    _Alignas(64) atomic_size_t sent;
    _Alignas(64) atomic_size_t received;
    atomic_bool is_closed;
} ring;

static inline bool ring_send(ring *r, void *item)
{
    size_t sent = atomic_load_explicit(&r->sent, memory_order_relaxed);
    if (sent - atomic_load_explicit(&r->received, memory_order_acquire) == RING)
        return false;
    r->items[sent % RING] = item;
    atomic_store_explicit(&r->sent, sent + 1, memory_order_release);
    return true;
}

static inline void *ring_receive(ring *r)
{
    size_t received = atomic_load_explicit(&r->received, memory_order_relaxed);
    if (received == atomic_load_explicit(&r->sent, memory_order_acquire))
        return NULL;
    void *item = r->items[received % RING];
    atomic_store_explicit(&r->received, received + 1, memory_order_release);
    return item;
}

/* Waits; NULL: the sender has closed and everything has been received. */
static inline void *ring_wait(ring *r)
{
    for (;;) {
        bool was_closed = atomic_load_explicit(&r->is_closed, memory_order_acquire);
        void *item = ring_receive(r);
        if (item != NULL || was_closed)
            return item;
        sched_yield();
    }
}

static inline void ring_close(ring *r) { atomic_store_explicit(&r->is_closed, true, memory_order_release); }

static inline ring *rings_new(size_t count)
{
    ring *rings = aligned_alloc(64, count * sizeof(ring));
    REQUIRE(rings != NULL);
    memset(rings, 0, count * sizeof(ring));
    return rings;
}

static inline pthread_t start(void *(*run)(void *), void *context)
{
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, run, context) == 0);
    return thread;
}

/* How many objects a scenario moves; less where each step is slow. */
static inline size_t amount(size_t full)
{
    size_t percent = setting("SLABMALLOC_THREADS_PERCENT", UNDER_TSAN ? 12 : UNDER_ASAN ? 30 : 100);
    return full * percent / 100 + 1;
}

/* A lost free would make an owner wait for ever. */
static inline void give_up_after_a_while(void) { alarm((unsigned)setting("SLABMALLOC_THREADS_SECONDS", 600)); }

/* ---- zones ---- */

static const uint32_t kinds[] = {8, 64, 1024}; /* three levels of summary, two, one */

static inline slabmalloc_zone *zone_over(const arena *a, uint32_t size, size_t first_page, size_t pages,
                                         bool random_start)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.classes = classes_one(size, ARENA_PAGE);
    options.random_start = random_start;
    options.seed = 5;
    slabmalloc_zone *zone = zone_new(&options);
    for (size_t i = 0; i < pages; i++)
        CHECK_OK(slabmalloc_zone_refill(zone, size, 8, a->base + ARENA_PAGE * (first_page + i), ARENA_PAGE));
    return zone;
}

/* All threads have returned: one collect, and everything is there again; every slot can be had, once. */
static inline void check_whole(const arena *a, slabmalloc_zone *zone, uint32_t size, size_t pages)
{
    slabmalloc_zone_adopt(zone);
    slabmalloc_zone_collect(zone);
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, 0);
    CHECK_CONSERVED(zone);
    size_t capacity = pages * page_layout_of(size, ARENA_PAGE).capacity, count = 0;
    void **objects = calloc(capacity + 1, sizeof *objects);
    REQUIRE(objects != NULL);
    while (count <= capacity && (objects[count] = slabmalloc_zone_allocate(zone, size, 8)) != NULL)
        take(a, objects[count++], size, 1);
    CHECK_EQUAL(count, capacity);
    for (size_t i = 0; i < count && i < capacity; i++) {
        drop(a, objects[i], size);
        CHECK_OK(slabmalloc_zone_deallocate(zone, objects[i], size, 8));
    }
    CHECK_CONSERVED(zone);
    free(objects);
}

#endif
