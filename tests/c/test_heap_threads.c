/* SPDX-License-Identifier: MIT
 *
 * Several heaps of one space, each with a thread: objects of all kinds change hands and are freed by whoever has them;
 * heaps are abandoned and adopted on the way; audits and trims run meanwhile. Objects are written without atomics, so
 * that ThreadSanitizer sees any ordering that the space does not give.
 */
#include "space_fixture.h"

enum { THREADS = 4, PLACES = 256, HEADER = 16 };

typedef struct shared {
    space *s;
    char *_Atomic places[PLACES];
    atomic_bool is_over;
    atomic_size_t without_heap; /* frees by those who have none */
} shared;

typedef struct worker {
    shared *all;
    uint64_t seed;
    size_t most_bytes, reopen_in; /* of so many steps, one ends with another heap; 0: none */
} worker;

/* An object says how long it is and has a tag; the rest is stamped. */
static char *object_new(heap *h, random_source *source, size_t most_bytes)
{
    size_t bytes = HEADER + any_size(source, most_bytes), way = random_below(source, 8);
    char *object = way == 0   ? heap_allocate_zeroed(h, bytes)
                   : way == 1 ? heap_allocate_aligned(h, bytes, (size_t)32 << random_below(source, 8))
                              : heap_allocate(h, bytes);
    if (object == NULL)
        return NULL;
    uint64_t header[2] = {bytes, random_word(source)};
    if (way == 0)
        CHECK(all_zero(object, bytes));
    memcpy(object, header, HEADER);
    stamp(object + HEADER, bytes - HEADER, header[1]);
    return object;
}

static void object_check(space *s, const char *object)
{
    uint64_t header[2];
    memcpy(header, object, HEADER);
    CHECK(heap_usable_bytes(s, object) >= header[0]);
    CHECK(is_stamped(object + HEADER, header[0] - HEADER, header[1]));
}

static void object_free(shared *all, heap *h, char *object)
{
    if (object == NULL)
        return;
    object_check(all->s, object);
    memset(object, 0xDD, HEADER);
    CHECK_OK(h != NULL ? heap_free(h, object) : heap_free_remote(all->s, object));
    if (h == NULL)
        atomic_fetch_add_explicit(&all->without_heap, 1, memory_order_relaxed);
}

static char *object_resize(heap *h, char *object, random_source *source, size_t most_bytes)
{
    size_t bytes = HEADER + any_size(source, most_bytes);
    uint64_t header[2];
    memcpy(header, object, HEADER);
    slabmalloc_status status;
    char *moved = heap_reallocate(h, object, bytes, &status);
    if (moved == NULL)
        return object;
    size_t least = header[0] < bytes ? header[0] : bytes;
    CHECK_OK(status);
    CHECK(is_stamped(moved + HEADER, least - HEADER, header[1]));
    header[0] = bytes;
    memcpy(moved, header, HEADER);
    stamp(moved + HEADER, bytes - HEADER, header[1]);
    return moved;
}

static char *exchange(shared *all, random_source *source, char *object)
{
    return atomic_exchange_explicit(&all->places[random_below(source, PLACES)], object, memory_order_acq_rel);
}

static void *run_worker(void *context)
{
    worker *w = context;
    shared *all = w->all;
    random_source source = random_from(w->seed);
    heap *h = heap_of(all->s);
    for (size_t step = 1; step <= amount(40000); step++) {
        size_t what = random_below(&source, 100);
        char *object = NULL;
        if (what < 55) {
            REQUIRE((object = object_new(h, &source, w->most_bytes)) != NULL);
        } else if (what < 62) {
            if ((object = exchange(all, &source, NULL)) != NULL)
                object = object_resize(h, object, &source, w->most_bytes);
        }
        object_free(all, h, exchange(all, &source, object));
        if (step % 64 == 0)
            heap_tick(h);
        if (step % 4096 == 0)
            check_audit(h);
        if (step % 3001 == 0)
            heap_trim(h);
        if (w->reopen_in != 0 && step % w->reopen_in == 0) {
            heap_abandon(h);
            h = heap_of(all->s);
        }
    }
    check_audit(h);
    heap_abandon(h);
    return NULL;
}

static void *run_without_heap(void *context)
{
    worker *w = context;
    random_source source = random_from(w->seed);
    while (!atomic_load_explicit(&w->all->is_over, memory_order_relaxed)) {
        object_free(w->all, NULL, exchange(w->all, &source, NULL));
        sched_yield();
    }
    return NULL;
}

static void *run_caretaker(void *context)
{
    worker *w = context;
    random_source source = random_from(w->seed);
    while (!atomic_load_explicit(&w->all->is_over, memory_order_relaxed)) {
        CHECK(heap_usable_bytes(w->all->s, w) == 0 && !heap_owns(w->all->s, w));
        space_decay(w->all->s, space_now_ms());
        if (random_below(&source, 50) == 0)
            space_trim(w->all->s);
        sleep_ms(1);
    }
    return NULL;
}

/* All are done: what is left is freed by one, and once each heap has been looked after, nothing stays anywhere. */
static void check_nothing_is_left(shared *all)
{
    heap *h = heap_of(all->s), *heaps[THREADS + 2];
    for (size_t i = 0; i < PLACES; i++)
        object_free(all, h, all->places[i]);
    CHECK_HEAP(h, 0);
    size_t known = space_statistics(all->s).heaps;
    REQUIRE(known <= THREADS + 2);
    for (size_t count = 0; count + 1 < known; count++) {
        heaps[count] = heap_of(all->s);
        check_audit(heaps[count]);
        heap_trim(heaps[count]);
        check_audit(heaps[count]);
    }
    heap_trim(h);
    CHECK_EQUAL(space_statistics(all->s).abandoned_heaps, 0);
    CHECK_EQUAL(space_statistics(all->s).heaps, known);
    CHECK_HEAP(h, 0);
    CHECK_EQUAL(space_statistics(all->s).mapped_bytes, 0);
    space_destroy(all->s);
}

static void churn(uint64_t seed, size_t most_bytes, size_t reopen_in, uint32_t decay_ms, uint32_t ranges)
{
    check_seed = seed;
    shared *all = calloc(1, sizeof *all);
    REQUIRE(all != NULL);
    all->s = space_new(ranges == 1 ? 1024 * (size_t)MIB : RESERVE_LEAST, ranges, decay_ms);
    /* Where there are further ranges, the first is full. */
    heap *filler = ranges > 1 ? heap_of(all->s) : NULL;
    static void *filling[RESERVE_LEAST / HEAP_MEDIUM_BYTES + 16];
    size_t filled = 0, most = sizeof filling / sizeof *filling;
    while (filler != NULL && space_statistics(all->s).reserved_bytes == RESERVE_LEAST && filled < most)
        REQUIRE((filling[filled++] = heap_allocate(filler, HEAP_MEDIUM_BYTES)) != NULL);
    CHECK(filler == NULL || atomic_load(&all->s->range_count) == 2);
    worker workers[THREADS + 2];
    pthread_t threads[THREADS + 2];
    for (size_t i = 0; i < THREADS + 2; i++) {
        workers[i] = (worker){all, seed * 100 + i, most_bytes, reopen_in == 0 ? 0 : reopen_in + i};
        threads[i] = start(i < THREADS ? run_worker : i == THREADS ? run_without_heap : run_caretaker, &workers[i]);
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&all->is_over, true);
    for (size_t i = THREADS; i < THREADS + 2; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&all->without_heap) > 0);
    while (filled > 0)
        CHECK_OK(heap_free_remote(all->s, filling[--filled]));
    if (filler != NULL)
        heap_abandon(filler);
    check_nothing_is_left(all);
    free(all);
}

static void churn_of_all_kinds(void) { churn(51, 512 * KIB, 0, 20, 1); }
static void churn_with_heaps_that_change_hands(void) { churn(52, 200 * KIB, 300, 5, 1); }
static void churn_with_no_rest_at_all(void) { churn(53, 200 * KIB, 1000, 0, 1); }
static void churn_in_several_ranges(void) { churn(54, 200 * KIB, 700, 5, 6); }

int main(void)
{
    alarm(300); /* a lost free or a deadlock would wait for ever */
    RUN(churn_of_all_kinds);
    RUN(churn_with_heaps_that_change_hands);
    RUN(churn_with_no_rest_at_all);
    RUN(churn_in_several_ranges);
    return check_finish();
}
