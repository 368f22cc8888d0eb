/* SPDX-License-Identifier: MIT
 *
 * Owners and freers at once: nothing is lost, nothing is handed out twice, and what one thread wrote into an object is
 * done before another gets its memory. One owner and many freers, many owners, owners that hand over and that end.
 */
#include "threads.h"

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

int main(void)
{
    give_up_after_a_while();
    RUN(one_owner_many_freers);
    RUN(frees_race_with_the_owners_looks);
    RUN(a_random_start_changes_nothing);
    RUN(zones_free_each_others_objects);
    RUN(ownership_is_handed_over);
    RUN(an_owner_ends_before_its_objects);
    RUN(a_zone_ends_with_uncollected_frees);
    return check_finish();
}
