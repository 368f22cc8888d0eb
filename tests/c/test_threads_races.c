/* SPDX-License-Identifier: MIT
 *
 * What threads do at the same moment: all free one object, pages leave while their last objects are freed, members of
 * an unowned zone take turns under a lock.
 */
#include "threads.h"

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

/* Racing remote frees of one object: exactly one is accepted. If the owner is in the race as well, one of the others
 * may be accepted beside it, and is found when it is collected; but the slot is free once. */
static void racing_double_frees_count_once(void)
{
    for (int with_owner = 0; with_owner < 2; with_owner++) {
        size_t batches = amount(200) < 250 ? amount(200) : 250, count = batches * BATCH;
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
        void *junk = (void *)(uintptr_t)(random_word(&source) >> 2 | UINT64_C(1) << 62); /* where no page ever is */
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

/* ---- slots that change from one set to the other under a freer who is wrong ---- */

static void unmap_page(void *context, void *page, size_t page_bytes, size_t live)
{
    (void)context, (void)live;
    slabmalloc_os_unmap(page, page_bytes);
}

typedef struct insisting {
    slabmalloc_zone *zone;
    void *_Atomic object;
    _Atomic size_t tries, accepted;
    atomic_bool stop;
} insisting;

/* Frees `object`, which is free already, all the time. */
static void *run_insisting(void *context)
{
    insisting *i = context;
    while (!atomic_load_explicit(&i->stop, memory_order_relaxed)) {
        void *object = atomic_load(&i->object);
        if (object != NULL && slabmalloc_zone_deallocate(i->zone, object, 8, 8) == SLABMALLOC_OK)
            atomic_fetch_add(&i->accepted, 1);
        atomic_fetch_add(&i->tries, 1);
    }
    return NULL;
}

static void let_it_try(insisting *i)
{
    for (size_t until = atomic_load(&i->tries) + 3; atomic_load(&i->tries) < until;)
        sched_yield();
}

/* A slab that becomes current with a random start has its lower slots moved to the remote set: no moment in which they
 * look live. (Once `local` was cleared first, and nearly every page let a double free through.) */
static void held_back_slots_are_free_at_all_times(void)
{
    enum { PAGES = 60, PAGE_BYTES = 65536 };
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.classes = (slabmalloc_size_classes){
        .count = 1, .base_page_bytes = PAGE_BYTES, .large_page_bytes = PAGE_BYTES, .max_base_bytes = 8, .sizes = {8}};
    options.random_start = true;
    options.seed = 7;
    insisting i = {.zone = zone_new(&options)};
    size_t capacity = slabmalloc_sc_objects_per_page(slabmalloc_zone_sc(i.zone, 0));
    static void *objects[PAGE_BYTES / 8];
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, run_insisting, &i) == 0);
    for (int n = 0; n < PAGES; n++) {
        char *page = slabmalloc_os_map(PAGE_BYTES, PAGE_BYTES, false);
        CHECK_OK(slabmalloc_zone_refill(i.zone, 8, 8, page, PAGE_BYTES));
        atomic_store(&i.object, page);
        let_it_try(&i);
        void *first = slabmalloc_zone_allocate(i.zone, 8, 8);
        let_it_try(&i);
        atomic_store(&i.object, NULL);
        let_it_try(&i);
        if (first == page) /* the start was slot 0: then a free of it is right, and the test had nothing to test */
            atomic_store(&i.accepted, 0);
        CHECK_EQUAL(atomic_load(&i.accepted), 0);
        slabmalloc_zone_allocate_many(i.zone, 8, 8, objects, capacity - 1);
    }
    atomic_store(&i.stop, true);
    pthread_join(thread, NULL);
    CHECK_POINTER((void *)(uintptr_t)slabmalloc_zone_audit(i.zone), NULL);
    slabmalloc_zone_detach(i.zone, unmap_page, NULL);
}

int main(void)
{
    give_up_after_a_while();
    RUN(racing_double_frees_count_once);
    RUN(empty_pages_leave_under_the_freers);
    RUN(an_unowned_zone_serves_under_a_lock);
    RUN(held_back_slots_are_free_at_all_times);
    return check_finish();
}
