/* SPDX-License-Identifier: MIT
 *
 * Owners and freers at once: nothing is lost, nothing is handed out twice, and what one thread wrote into an object is
 * done before another gets its memory. Every object is written without atomics by whoever holds it, so that
 * ThreadSanitizer sees any ordering that the allocator does not give; every slot has a shadow state, which is atomic but
 * relaxed, so that the test gives none itself.
 */
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

static arena arena_new(void)
{
    arena a = {memory_new((size_t)ARENA_PAGE * ARENA_PAGES, ARENA_PAGE),
               calloc((size_t)ARENA_PAGE * ARENA_PAGES / 8, 1)};
    REQUIRE(a.states != NULL);
    return a;
}

static void arena_end(arena *a)
{
    for (size_t i = 0; i < (size_t)ARENA_PAGE * ARENA_PAGES / 8; i++)
        if (!CHECK_EQUAL(atomic_load_explicit(&a->states[i], memory_order_relaxed), SLOT_FREE))
            break;
    memory_free(a->base, (size_t)ARENA_PAGE * ARENA_PAGES);
    free(a->states);
}

static atomic_uchar *state_of(const arena *a, const void *object)
{
    return &a->states[(size_t)((const char *)object - a->base) / 8];
}

/* The thread that just got `object` marks and writes it. */
static void take(const arena *a, void *object, size_t size, unsigned char pattern)
{
    CHECK_EQUAL(atomic_exchange_explicit(state_of(a, object), SLOT_LIVE, memory_order_relaxed), SLOT_FREE);
    memset(object, pattern, size);
}

/* The thread that is about to free it reads, writes and unmarks it. */
static void drop(const arena *a, void *object, size_t size)
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

static bool ring_send(ring *r, void *item)
{
    size_t sent = atomic_load_explicit(&r->sent, memory_order_relaxed);
    if (sent - atomic_load_explicit(&r->received, memory_order_acquire) == RING)
        return false;
    r->items[sent % RING] = item;
    atomic_store_explicit(&r->sent, sent + 1, memory_order_release);
    return true;
}

static void *ring_receive(ring *r)
{
    size_t received = atomic_load_explicit(&r->received, memory_order_relaxed);
    if (received == atomic_load_explicit(&r->sent, memory_order_acquire))
        return NULL;
    void *item = r->items[received % RING];
    atomic_store_explicit(&r->received, received + 1, memory_order_release);
    return item;
}

/* Waits; NULL: the sender has closed and everything has been received. */
static void *ring_wait(ring *r)
{
    for (;;) {
        bool was_closed = atomic_load_explicit(&r->is_closed, memory_order_acquire);
        void *item = ring_receive(r);
        if (item != NULL || was_closed)
            return item;
        sched_yield();
    }
}

static void ring_close(ring *r) { atomic_store_explicit(&r->is_closed, true, memory_order_release); }

static ring *rings_new(size_t count)
{
    ring *rings = aligned_alloc(64, count * sizeof(ring));
    REQUIRE(rings != NULL);
    memset(rings, 0, count * sizeof(ring));
    return rings;
}

static pthread_t start(void *(*run)(void *), void *context)
{
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, run, context) == 0);
    return thread;
}

/* How many objects a scenario moves; less where each step is slow. */
static size_t amount(size_t full)
{
    size_t percent = setting("SLABMALLOC_THREADS_PERCENT", UNDER_TSAN ? 12 : UNDER_ASAN ? 30 : 100);
    return full * percent / 100 + 1;
}

/* ---- zones ---- */

static const uint32_t kinds[] = {8, 64, 1024}; /* three levels of summary, two, one */

static slabmalloc_zone *zone_over(const arena *a, uint32_t size, size_t first_page, size_t pages, bool random_start)
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
static void check_whole(const arena *a, slabmalloc_zone *zone, uint32_t size, size_t pages)
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

/* ---- the owner allocates, others free ---- */

typedef struct freer {
    const arena *arena;
    slabmalloc_zone *zone;
    ring *ring;
    uint32_t size;
    size_t freed;
} freer;

static void *run_freer(void *context)
{
    freer *f = context;
    void *object;
    while ((object = ring_wait(f->ring)) != NULL) {
        drop(f->arena, object, f->size);
        CHECK_OK(slabmalloc_zone_deallocate(f->zone, object, f->size, 8));
        f->freed++;
    }
    return NULL;
}

typedef struct owner_work {
    const arena *arena;
    slabmalloc_zone *zone;
    ring *rings;
    size_t freers, objects;
    uint32_t size;
    bool looks; /* at statistics, audit and single slots, collecting all the time */
    bool frees; /* a share of the objects itself */
} owner_work;

static void look(owner_work *w, size_t i, void *object)
{
    switch (i % 64) {
    case 0: slabmalloc_zone_collect(w->zone); break;
    case 16: CHECK_SOUND(w->zone); break;
    case 32: CHECK_EQUAL(slabmalloc_zone_stats(w->zone, -1).object_bytes, 0); break;
    case 48: CHECK(slabmalloc_zone_inspect(w->zone, object).is_live); break;
    default: break;
    }
}

static void run_owner(owner_work *w, random_source *source)
{
    for (size_t i = 0; i < w->objects; i++) {
        void *object = slabmalloc_zone_allocate(w->zone, w->size, 8);
        if (object == NULL) { /* everything is with the freers */
            sched_yield();
            i--;
            continue;
        }
        take(w->arena, object, w->size, (unsigned char)(i % 200));
        if (w->looks)
            look(w, i, object);
        if (w->frees && random_below(source, 4) == 0) {
            drop(w->arena, object, w->size);
            CHECK_OK(slabmalloc_zone_deallocate(w->zone, object, w->size, 8));
            continue;
        }
        while (!ring_send(&w->rings[random_below(source, w->freers)], object))
            sched_yield();
    }
}

static void owner_and_freers(size_t freers, uint32_t size, bool looks, bool frees, bool random_start)
{
    check_seed = freers * 100 + size;
    random_source source = random_from(check_seed);
    arena a = arena_new();
    size_t pages = 3;
    slabmalloc_zone *zone = zone_over(&a, size, 0, pages, random_start);
    ring *rings = rings_new(freers);
    freer contexts[MAX_FREERS];
    pthread_t threads[MAX_FREERS];
    for (size_t i = 0; i < freers; i++) {
        contexts[i] = (freer){&a, zone, &rings[i], size, 0};
        threads[i] = start(run_freer, &contexts[i]);
    }
    owner_work work = {&a, zone, rings, freers, amount(looks ? 20000 : 60000), size, looks, frees};
    run_owner(&work, &source);
    size_t freed = 0;
    for (size_t i = 0; i < freers; i++) {
        ring_close(&rings[i]);
        pthread_join(threads[i], NULL);
        freed += contexts[i].freed;
    }
    slabmalloc_zone_collect(zone);
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).remote_frees, freed);
    check_whole(&a, zone, size, pages);
    slabmalloc_zone_destroy(zone);
    free(rings);
    arena_end(&a);
}

static void one_owner_many_freers(void)
{
    for (size_t freers = 1; freers <= MAX_FREERS; freers++)
        for (size_t kind = 0; kind < 3; kind++)
            owner_and_freers(freers, kinds[kind], false, freers % 2 == 0, false);
}

static void frees_race_with_the_owners_looks(void)
{
    for (size_t kind = 0; kind < 3; kind++)
        owner_and_freers(2, kinds[kind], true, true, false);
}

static void a_random_start_changes_nothing(void)
{
    for (size_t kind = 0; kind < 3; kind++)
        owner_and_freers(2, kinds[kind], false, true, true);
}

/* ---- several owners, each freeing what the others made ---- */

enum { PEERS = 4, PEER_PAGES = 3 };

typedef struct peer {
    const arena *arena;
    slabmalloc_zone *zones[PEERS];
    ring *rings; /* [from * PEERS + to] */
    atomic_size_t *running;
    size_t self, objects;
    uint32_t size;
} peer;

static size_t peer_receive(peer *p)
{
    size_t count = 0;
    for (size_t from = 0; from < PEERS; from++) {
        void *object = ring_receive(&p->rings[from * PEERS + p->self]);
        if (object == NULL)
            continue;
        count++;
        drop(p->arena, object, p->size);
        size_t maker = (size_t)((char *)object - p->arena->base) / ARENA_PAGE / PEER_PAGES;
        CHECK_OK(slabmalloc_zone_deallocate(p->zones[maker], object, p->size, 8));
    }
    return count;
}

static void *run_peer(void *context)
{
    peer *p = context;
    random_source source = random_from(check_seed + p->self);
    slabmalloc_zone *own = p->zones[p->self];
    slabmalloc_zone_adopt(own);
    for (size_t i = 0; i < p->objects;) {
        void *object = slabmalloc_zone_allocate(own, p->size, 8);
        if (object != NULL) {
            take(p->arena, object, p->size, (unsigned char)(i % 200));
            size_t to = random_below(&source, PEERS);
            while (!ring_send(&p->rings[p->self * PEERS + to], object))
                if (peer_receive(p) == 0)
                    sched_yield();
            i++;
        }
        if (peer_receive(p) == 0 && object == NULL)
            sched_yield();
        if (i % 512 == 0)
            CHECK_SOUND(own);
    }
    atomic_fetch_sub_explicit(p->running, 1, memory_order_acq_rel);
    while (atomic_load_explicit(p->running, memory_order_acquire) > 0)
        if (peer_receive(p) == 0)
            sched_yield();
    while (peer_receive(p) > 0)
        ;
    return NULL;
}

static void zones_free_each_others_objects(void)
{
    for (size_t kind = 0; kind < 3; kind++) {
        check_seed = 40 + kind;
        arena a = arena_new();
        atomic_size_t running = PEERS;
        peer peers[PEERS];
        pthread_t threads[PEERS];
        slabmalloc_zone *zones[PEERS];
        ring *rings = rings_new((size_t)PEERS * PEERS);
        for (size_t i = 0; i < PEERS; i++)
            zones[i] = zone_over(&a, kinds[kind], PEER_PAGES * i, PEER_PAGES, false);
        for (size_t i = 0; i < PEERS; i++) {
            peers[i] = (peer){.arena = &a,
                              .rings = rings,
                              .running = &running,
                              .self = i,
                              .objects = amount(30000),
                              .size = kinds[kind]};
            memcpy(peers[i].zones, zones, sizeof zones);
            threads[i] = start(run_peer, &peers[i]);
        }
        for (size_t i = 0; i < PEERS; i++)
            pthread_join(threads[i], NULL);
        for (size_t i = 0; i < PEERS; i++) {
            check_whole(&a, zones[i], kinds[kind], PEER_PAGES);
            slabmalloc_zone_destroy(zones[i]);
        }
        free(rings);
        arena_end(&a);
    }
}

/* ---- the owner changes while others free ---- */

typedef struct handover {
    owner_work work;
    atomic_size_t *turn; /* whose turn it is */
    size_t self, owners, rounds;
} handover;

static void *run_handover(void *context)
{
    handover *h = context;
    random_source source = random_from(check_seed + h->self);
    for (size_t round = h->self; round < h->rounds; round += h->owners) {
        while (atomic_load_explicit(h->turn, memory_order_acquire) != round)
            sched_yield();
        slabmalloc_zone_adopt(h->work.zone);
        run_owner(&h->work, &source);
        atomic_store_explicit(h->turn, round + 1, memory_order_release);
    }
    return NULL;
}

static void ownership_is_handed_over(void)
{
    enum { OWNERS = 3, FREERS = 2 };
    for (size_t kind = 0; kind < 3; kind++) {
        check_seed = 60 + kind;
        arena a = arena_new();
        slabmalloc_zone *zone = zone_over(&a, kinds[kind], 0, 2, false);
        ring *rings = rings_new(FREERS);
        freer freers[FREERS];
        handover owners[OWNERS];
        pthread_t freer_threads[FREERS], owner_threads[OWNERS];
        atomic_size_t turn = 0;
        for (size_t i = 0; i < FREERS; i++) {
            freers[i] = (freer){&a, zone, &rings[i], kinds[kind], 0};
            freer_threads[i] = start(run_freer, &freers[i]);
        }
        for (size_t i = 0; i < OWNERS; i++) {
            owners[i] =
                (handover){{&a, zone, rings, FREERS, amount(1500), kinds[kind], true, true}, &turn, i, OWNERS, 24};
            owner_threads[i] = start(run_handover, &owners[i]);
        }
        for (size_t i = 0; i < OWNERS; i++)
            pthread_join(owner_threads[i], NULL);
        for (size_t i = 0; i < FREERS; i++) {
            ring_close(&rings[i]);
            pthread_join(freer_threads[i], NULL);
        }
        check_whole(&a, zone, kinds[kind], 2);
        slabmalloc_zone_destroy(zone);
        free(rings);
        arena_end(&a);
    }
}

/* ---- the owner ends while its objects are with others ---- */

typedef struct short_owner {
    owner_work work;
} short_owner;

static void *run_short_owner(void *context)
{
    short_owner *o = context;
    random_source source = random_from(check_seed);
    slabmalloc_zone_adopt(o->work.zone);
    run_owner(&o->work, &source);
    return NULL;
}

static void an_owner_ends_before_its_objects(void)
{
    for (int round = 0; round < 30; round++) {
        uint32_t size = kinds[round % 3];
        check_seed = 80 + (uint64_t)round;
        arena a = arena_new();
        slabmalloc_zone *zone = zone_over(&a, size, 0, 1, false);
        ring *rings = rings_new(2);
        freer freers[2];
        pthread_t threads[2];
        short_owner owner = {{&a, zone, rings, 2, 60, size, false, false}};
        pthread_join(start(run_short_owner, &owner), NULL);
        for (size_t i = 0; i < 2; i++) { /* all of them are freed when the owner is gone already */
            freers[i] = (freer){&a, zone, &rings[i], size, 0};
            ring_close(&rings[i]);
            threads[i] = start(run_freer, &freers[i]);
        }
        if (round % 2 == 0) { /* and maybe while the next owner is at work */
            slabmalloc_zone_adopt(zone);
            slabmalloc_zone_collect(zone);
            CHECK_SOUND(zone);
        }
        for (size_t i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
        slabmalloc_zone_adopt(zone);
        slabmalloc_zone_collect(zone);
        CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).remote_frees, 60); /* nobody else became the owner by chance */
        check_whole(&a, zone, size, 1);
        slabmalloc_zone_destroy(zone);
        free(rings);
        arena_end(&a);
    }
}

/* A zone that is destroyed or detached with remote frees that nobody collected. */
static void note_live(void *context, void *page, size_t page_bytes, size_t live)
{
    (void)page;
    (void)page_bytes;
    *(size_t *)context += live;
}

static void a_zone_ends_with_uncollected_frees(void)
{
    for (int how = 0; how < 2; how++) {
        arena a = arena_new();
        slabmalloc_zone *zone = zone_over(&a, 64, 0, 2, false);
        ring *rings = rings_new(1);
        random_source source = random_from(7);
        owner_work work = {&a, zone, rings, 1, 300, 64, false, false};
        run_owner(&work, &source);
        freer f = {&a, zone, rings, 64, 0};
        ring_close(rings);
        pthread_join(start(run_freer, &f), NULL);
        CHECK_EQUAL(f.freed, 300);
        size_t live = 0;
        if (how == 0)
            slabmalloc_zone_destroy(zone);
        else
            slabmalloc_zone_detach(zone, note_live, &live);
        CHECK_EQUAL(live, 0);
        free(rings);
        arena_end(&a);
    }
}

/* ---- everybody frees the same objects ---- */

enum { RACERS = 3, BATCH = 32 };

typedef struct race {
    slabmalloc_zone *zone;
    char **objects;
    size_t batches;
    atomic_size_t *round;    /* batches begun */
    atomic_size_t *arrived;  /* racers that have finished a batch, summed up */
    atomic_size_t *accepted; /* by object */
} race;

static void free_batch(race *r, size_t batch)
{
    for (size_t i = BATCH * batch; i < BATCH * (batch + 1); i++) {
        slabmalloc_status status = slabmalloc_zone_deallocate(r->zone, r->objects[i], 64, 8);
        CHECK(status == SLABMALLOC_OK || status == SLABMALLOC_FREE_DOUBLE);
        if (status == SLABMALLOC_OK)
            atomic_fetch_add_explicit(&r->accepted[i], 1, memory_order_relaxed);
    }
}

/* Waits without giving up the processor for a while, so that all begin together. */
static void wait_for(atomic_size_t *value, size_t least)
{
    for (size_t i = 0; atomic_load_explicit(value, memory_order_acquire) < least; i++)
        if (i > 2000)
            sched_yield();
}

static void *run_racer(void *context)
{
    race *r = context;
    for (size_t batch = 0; batch < r->batches; batch++) {
        wait_for(r->round, batch + 1);
        free_batch(r, batch);
        atomic_fetch_add_explicit(r->arrived, 1, memory_order_release);
    }
    return NULL;
}

/* Racing remote frees of one object: exactly one is accepted. If the owner is in the race as well, one of the others may
 * be accepted beside it, and is found when it is collected; but the slot is free once. */
static void racing_double_frees_count_once(void)
{
    for (int with_owner = 0; with_owner < 2; with_owner++) {
        size_t batches = amount(200), count = batches * BATCH;
        arena a = arena_new();
        slabmalloc_zone *zone = zone_over(&a, 64, 0, 8, false);
        char **objects = calloc(count, sizeof *objects);
        atomic_size_t round = 0, arrived = 0, *accepted = calloc(count, sizeof *accepted);
        REQUIRE(objects != NULL && accepted != NULL);
        for (size_t i = 0; i < count; i++)
            REQUIRE((objects[i] = slabmalloc_zone_allocate(zone, 64, 8)) != NULL);
        race r = {zone, objects, batches, &round, &arrived, accepted};
        pthread_t threads[RACERS];
        for (size_t i = 0; i < RACERS; i++)
            threads[i] = start(run_racer, &r);
        for (size_t batch = 0; batch < batches; batch++) {
            atomic_store_explicit(&round, batch + 1, memory_order_release);
            if (with_owner)
                free_batch(&r, batch);
            if (batch % 4 == 0)
                slabmalloc_zone_collect(zone);
            wait_for(&arrived, RACERS * (batch + 1));
            for (size_t i = BATCH * batch; i < BATCH * (batch + 1); i++) {
                size_t got = atomic_load(&accepted[i]);
                CHECK(got == 1 || (with_owner && got == 2));
                CHECK_STATUS(slabmalloc_zone_deallocate(zone, objects[i], 64, 8), FREE_DOUBLE);
            }
            CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, count - BATCH * (batch + 1));
            CHECK_SOUND(zone);
        }
        for (size_t i = 0; i < RACERS; i++)
            pthread_join(threads[i], NULL);
        check_whole(&a, zone, 64, 8);
        slabmalloc_zone_destroy(zone);
        free(objects);
        free(accepted);
        arena_end(&a);
    }
}

/* ---- pages come and go under the freers ---- */

typedef struct churn {
    slabmalloc_zone *zone;
    ring *ring;
    atomic_bool *stop;
} churn;

/* Frees what it gets; its class is known by the page: even pages of the region hold 64-byte objects, odd ones 1024. */
static size_t churn_size(const void *object) { return *(const uint16_t *)object; }

static void *run_churn_freer(void *context)
{
    churn *c = context;
    void *object;
    while ((object = ring_wait(c->ring)) != NULL) {
        size_t size = churn_size(object);
        memset(object, 0xDD, size);
        CHECK_OK(slabmalloc_zone_deallocate(c->zone, object, size, 8));
    }
    return NULL;
}

/* Frees what was never allocated, all the time: on no page, or on a page that may just come or go. */
static void *run_vandal(void *context)
{
    churn *c = context;
    random_source source = random_from(13);
    while (!atomic_load_explicit(c->stop, memory_order_relaxed)) {
        void *junk = (void *)(uintptr_t)(random_word(&source) >> 16);
        slabmalloc_status status = slabmalloc_zone_deallocate(c->zone, junk, 64, 8);
        CHECK_STATUS(status, FREE_FOREIGN);
        CHECK_STATUS(slabmalloc_zone_deallocate(c->zone, junk, 0, 8), INVALID_LAYOUT);
    }
    return NULL;
}

/* The owner reclaims each page as soon as it is empty, and the pager unmaps it: whoever still touches it crashes. */
static void empty_pages_leave_under_the_freers(void)
{
    enum { FREERS = 3 };
    check_seed = 90;
    random_source source = random_from(check_seed);
    test_pager *pager = test_pager_new();
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    slabmalloc_pager calls = test_pager_of(pager);
    options.pager = &calls;
    const uint32_t sizes[] = {16, 64, 1024};
    options.classes = classes_of(4096, 65536, 256, sizes, 3);
    slabmalloc_zone *zone = zone_new(&options);
    ring *rings = rings_new(FREERS);
    atomic_bool stop = false;
    churn contexts[FREERS + 1];
    pthread_t threads[FREERS + 1];
    for (size_t i = 0; i <= FREERS; i++) {
        contexts[i] = (churn){zone, &rings[i < FREERS ? i : 0], &stop};
        threads[i] = start(i < FREERS ? run_churn_freer : run_vandal, &contexts[i]);
    }
    for (size_t i = 0, count = amount(60000); i < count; i++) {
        size_t size = sizes[random_below(&source, 3)];
        char *object = slabmalloc_zone_allocate(zone, size, 8);
        REQUIRE(object != NULL);
        memset(object, 0, size);
        *(uint16_t *)(void *)object = (uint16_t)size;
        while (!ring_send(&rings[random_below(&source, FREERS)], object))
            sched_yield();
        if (i % 8 == 0) {
            slabmalloc_zone_reclaim(zone, -1, 4096, 4, NULL, NULL);
            slabmalloc_zone_reclaim(zone, -1, 65536, 4, NULL, NULL);
        }
        if (i % 1024 == 0) {
            CHECK_SOUND(zone);
            slabmalloc_class_stats s = slabmalloc_zone_stats(zone, -1); /* of one moment, while frees go on */
            CHECK_EQUAL(s.live_bytes + s.free_bytes + s.metadata_bytes + s.tail_bytes + s.empty_bytes, s.mapped_bytes);
        }
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < FREERS; i++)
        ring_close(&rings[i]);
    for (size_t i = 0; i <= FREERS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL((slabmalloc_zone_collect(zone), slabmalloc_zone_stats(zone, -1).live_objects), 0);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    test_pager_end(pager);
    free(rings);
}

/* No thread is the owner of an unowned zone: one mutex holder at a time acts as such, everybody else frees remotely. */
typedef struct guild {
    const arena *arena;
    slabmalloc_zone *zone;
    pthread_mutex_t *lock;
    size_t objects;
    uint64_t seed;
} guild;

static void *run_guild_member(void *context)
{
    guild *g = context;
    random_source source = random_from(g->seed);
    void *held[64];
    size_t count = 0;
    for (size_t i = 0; i < g->objects || count > 0; i++) {
        if (i < g->objects && (count == 0 || (count < 64 && random_below(&source, 2) == 0))) {
            pthread_mutex_lock(g->lock);
            void *object = slabmalloc_zone_allocate(g->zone, 64, 8);
            pthread_mutex_unlock(g->lock);
            REQUIRE(object != NULL);
            take(g->arena, object, 64, (unsigned char)i);
            held[count++] = object;
        } else {
            size_t j = random_below(&source, count);
            drop(g->arena, held[j], 64);
            if (random_below(&source, 2) == 0) {
                CHECK_OK(slabmalloc_zone_deallocate(g->zone, held[j], 64, 8));
            } else {
                pthread_mutex_lock(g->lock);
                CHECK_OK(slabmalloc_zone_deallocate_owned(g->zone, held[j], 64, 8));
                pthread_mutex_unlock(g->lock);
            }
            held[j] = held[--count];
        }
    }
    return NULL;
}

static void an_unowned_zone_serves_under_a_lock(void)
{
    enum { MEMBERS = 4 };
    arena a = arena_new();
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.classes = classes_one(64, ARENA_PAGE);
    options.unowned = true;
    slabmalloc_zone *zone = zone_new(&options);
    for (size_t i = 0; i < 2; i++)
        CHECK_OK(slabmalloc_zone_refill(zone, 64, 8, a.base + ARENA_PAGE * i, ARENA_PAGE));
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    guild members[MEMBERS];
    pthread_t threads[MEMBERS];
    for (size_t i = 0; i < MEMBERS; i++) {
        members[i] = (guild){&a, zone, &lock, amount(20000), 100 + i};
        threads[i] = start(run_guild_member, &members[i]);
    }
    for (size_t i = 0; i < MEMBERS; i++)
        pthread_join(threads[i], NULL);
    check_whole(&a, zone, 64, 2);
    slabmalloc_zone_destroy(zone);
    arena_end(&a);
}

int main(void)
{
    alarm((unsigned)setting("SLABMALLOC_THREADS_SECONDS", 600)); /* a lost free would make an owner wait for ever */
    RUN(one_owner_many_freers);
    RUN(frees_race_with_the_owners_looks);
    RUN(a_random_start_changes_nothing);
    RUN(zones_free_each_others_objects);
    RUN(ownership_is_handed_over);
    RUN(an_owner_ends_before_its_objects);
    RUN(a_zone_ends_with_uncollected_frees);
    RUN(racing_double_frees_count_once);
    RUN(empty_pages_leave_under_the_freers);
    RUN(an_unowned_zone_serves_under_a_lock);
    return check_finish();
}
