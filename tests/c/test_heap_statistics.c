/* SPDX-License-Identifier: MIT
 *
 * Statistics of a space: the rows add up, what goes back is counted wherever it goes, and anyone may ask while others
 * work.
 */
#include "space_fixture.h"

enum { WORKERS = 3, PLACES = 64 };

/* When no other thread runs: each sum is its rows', to the byte. */
static space_stats check_rows(space *s)
{
    space_stats stats = space_statistics(s);
    size_t live_objects = stats.large_objects, live_bytes = stats.large_bytes, free_bytes = 0, pages_bytes = 0;
    uint64_t remote_frees = 0;
    for (size_t i = 0; i < SPACE_CLASSES; i++) {
        const space_class_stats *row = &stats.classes[i];
        if (row->object_bytes == 0) {
            CHECK(row->slabs == 0 && row->pages_bytes == 0 && row->live_objects == 0 && row->free_objects == 0);
            CHECK(row->peak_pages_bytes == 0 && row->remote_frees == 0 && row->served_objects == 0);
            continue;
        }
        size_t page = row->object_bytes > HEAP_SMALL_BYTES ? HEAP_MEDIUM_PAGE_BYTES : HEAP_PAGE_BYTES;
        CHECK_EQUAL(row->pages_bytes, row->slabs * page);
        CHECK(row->peak_pages_bytes > 0 && row->peak_pages_bytes % page == 0);
        CHECK(row->pages_bytes <= row->peak_pages_bytes);
        CHECK_EQUAL(row->live_objects + row->free_objects, row->slabs * (page / row->object_bytes));
        CHECK(row->served_objects >= row->live_objects);
        live_objects += row->live_objects;
        live_bytes += row->live_objects * row->object_bytes;
        free_bytes += row->free_objects * row->object_bytes;
        pages_bytes += row->pages_bytes;
        remote_frees += row->remote_frees;
    }
    CHECK_EQUAL(stats.live_objects, live_objects);
    CHECK_EQUAL(stats.live_bytes, live_bytes);
    CHECK_EQUAL(stats.free_bytes, free_bytes);
    CHECK_EQUAL(stats.mapped_bytes, pages_bytes + stats.resting_bytes + stats.large_bytes);
    CHECK_EQUAL(stats.live_bytes + stats.free_bytes + stats.tail_bytes + stats.resting_bytes, stats.mapped_bytes);
    CHECK(stats.mapped_bytes <= stats.peak_mapped_bytes);
    CHECK(stats.large_bytes + stats.large_resting_bytes <= stats.large_peak_bytes);
    CHECK(stats.large_resting_bytes <= stats.resting_bytes);
    CHECK_EQUAL(stats.remote_frees, remote_frees);
    return stats;
}

static uint64_t served(space *s, size_t object_bytes)
{
    space_stats stats = space_statistics(s);
    for (size_t i = 0; i < SPACE_CLASSES; i++)
        if (stats.classes[i].object_bytes == object_bytes)
            return stats.classes[i].served_objects;
    return 0;
}

/* In whatever way they were, from a slab's random start on, and by heaps that have ended. */
static void objects_served_are_counted(void)
{
    enum { MANY = 5000, BYTES = 48 };
    space *s = space_new(64 * (size_t)MIB, 1, 5);
    heap *h = heap_of(s);
    void *objects[MANY];
    uint64_t count = 0;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < MANY; i++) {
            objects[i] = i % 2 == 0 ? heap_allocate(h, BYTES) : heap_allocate_zeroed(h, BYTES);
            count++;
        }
        for (size_t i = 0; i < MANY; i++)
            CHECK_OK(i % 3 == 0 ? heap_free_remote(s, objects[i]) : heap_free(h, objects[i]));
    }
    CHECK_EQUAL(served(s, BYTES), count);
    slabmalloc_status status;
    objects[0] = heap_allocate(h, 40);
    objects[0] = heap_reallocate(h, objects[0], BYTES, &status); /* stays */
    objects[0] = heap_reallocate(h, objects[0], 20000, &status);
    CHECK_EQUAL(served(s, heap_usable_bytes(s, objects[0])), 1);
    objects[0] = heap_reallocate(h, objects[0], BYTES, &status);
    CHECK_EQUAL(served(s, BYTES), count + 2);
    CHECK_OK(heap_free(h, objects[0]));
    heap_trim(h);
    heap_abandon(h);
    heap *borrowed = heap_borrow(s, space_now_ms(), 0);
    REQUIRE(borrowed == h);
    heap_return(borrowed, true);
    CHECK_EQUAL(space_statistics(s).heaps, 0);
    CHECK_EQUAL(served(s, BYTES), count + 2);
    CHECK_EQUAL(space_statistics(s).served_objects, count + 3);
    space_destroy(s);
}

/* What the kernel says that is present (bit 63 of each OS page's entry in /proc/self/pagemap). */
static size_t present_bytes(uintptr_t begin, uintptr_t end)
{
    size_t os_bytes = os_page_bytes(), present = 0;
    FILE *map = fopen("/proc/self/pagemap", "r");
    REQUIRE(map != NULL && fseeko(map, (off_t)(begin / os_bytes * 8), SEEK_SET) == 0);
    for (uintptr_t page = begin; page < end; page += os_bytes) {
        uint64_t entry;
        REQUIRE(fread(&entry, sizeof(entry), 1, map) == 1);
        present += entry >> 63;
    }
    fclose(map);
    return present * os_bytes;
}

/* `large`: the only large block that there is, live or resting; NULL: none. */
static void check_resident(space *s, const char *large, size_t large_bytes)
{
    space_stats stats = space_statistics(s);
    space_count_resident(s, &stats);
    size_t resident = 0;
    for (size_t i = 0; i < SPACE_CLASSES; i++) {
        CHECK(stats.classes[i].resident_bytes <= stats.classes[i].pages_bytes);
        resident += stats.classes[i].resident_bytes;
    }
    const arena *a = &s->ranges[0].arena;
    size_t of_pages = stats.heap_resident_bytes - stats.large_resident_bytes;
    CHECK_EQUAL(of_pages, present_bytes(a->base, a->base + arena_fresh(a) * ARENA_CHUNK_BYTES));
    CHECK(resident <= of_pages && of_pages <= resident + stats.resting_bytes);
    CHECK_EQUAL(stats.large_resident_bytes, present_bytes((uintptr_t)large, (uintptr_t)large + large_bytes));
}

/* By mincore as by the kernel's own account: after writing, freeing, purging within slabs, and with pages at rest. */
static void resident_is_what_the_kernel_counts(void)
{
    enum { MANY = 40000, LARGE = 8 * MIB };
    space *s = space_new(64 * (size_t)MIB, 1, 5);
    heap *h = heap_of(s);
    static char *objects[MANY];
    for (size_t i = 0; i < MANY; i++) {
        REQUIRE((objects[i] = heap_allocate(h, i % 2 == 0 ? 500 : 100)) != NULL);
        memset(objects[i], 1, 100);
    }
    check_resident(s, NULL, 0);
    size_t before = space_statistics(s).mapped_bytes;
    for (size_t i = 0; i < MANY; i++)
        if (i % 1000 != 0)
            CHECK_OK(heap_free(h, objects[i]));
    check_resident(s, NULL, 0);
    heap_trim(h);
    check_resident(s, NULL, 0);
    space_stats stats = space_statistics(s);
    space_count_resident(s, &stats);
    CHECK(stats.heap_resident_bytes < before / 20);
    CHECK(stats.heap_resident_bytes >= MANY / 1000 * os_page_bytes());
    char *large = heap_allocate(h, LARGE);
    REQUIRE(large != NULL);
    memset(large + 3 * MIB, 1, MIB + 1);
    check_resident(s, large, LARGE);
    CHECK_OK(heap_free(h, large));
    check_resident(s, large, LARGE);
    heap_trim(h);
    check_resident(s, NULL, 0);
    space_destroy(s);
}

static void rows_add_up(void)
{
    enum { LIVE = 500 };
    check_seed = 91;
    random_source source = random_from(check_seed);
    space *s = space_new(256 * (size_t)MIB, 1, 5);
    heap *heaps[3] = {heap_of(s), heap_of(s), heap_of(s)};
    char *live[LIVE] = {NULL};
    uint64_t given = 0, remote = 0, reused = 0;
    size_t peak = 0, count = 0;
    for (int step = 0; step < (UNDER_TSAN || UNDER_ASAN ? 2000 : 8000); step++) {
        size_t i = random_below(&source, LIVE);
        heap *h = heaps[random_below(&source, 3)];
        if (live[i] != NULL)
            CHECK_OK(heap_free(h, live[i]));
        count -= live[i] != NULL;
        live[i] = random_below(&source, 3) == 0 ? NULL : heap_allocate(h, any_size(&source, 900 * KIB));
        count += live[i] != NULL;
        if (step % 16 == 0)
            heap_tick(h);
        if (step % 900 == 0)
            heap_trim(h);
        if (step % 20 == 0) {
            space_stats stats = check_rows(s);
            CHECK_EQUAL(stats.live_objects, count);
            CHECK(stats.given_back_bytes >= given && stats.remote_frees >= remote && stats.large_reused >= reused);
            CHECK(stats.peak_mapped_bytes >= peak);
            given = stats.given_back_bytes;
            remote = stats.remote_frees;
            reused = stats.large_reused;
            peak = stats.peak_mapped_bytes;
        }
    }
    CHECK(given > 0 && remote > 0 && reused > 0);
    space_destroy(s);
}

/* Whatever makes mapped bytes fewer is in given_back_bytes. */
static void what_goes_back_is_counted(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 1000000);
    heap *h = heap_of(s);
    slabmalloc_status status;
    char *object = heap_allocate(h, 20 * MIB);
    space_stats before = space_statistics(s);
    REQUIRE((object = heap_reallocate(h, object, 5 * MIB, &status)) != NULL);
    space_stats after = space_statistics(s);
    CHECK_EQUAL(before.mapped_bytes - after.mapped_bytes, 15 * MIB);
    CHECK_EQUAL(after.given_back_bytes - before.given_back_bytes, 15 * MIB);
    CHECK_OK(heap_free(h, object));
    before = space_statistics(s);
    CHECK_EQUAL(heap_trim(h), 5 * MIB);
    after = space_statistics(s);
    CHECK_EQUAL(after.given_back_bytes - before.given_back_bytes, 5 * MIB);
    CHECK_EQUAL(after.mapped_bytes, 0);
    space_destroy(s);
}

/* ---- while others work ---- */

typedef struct worker {
    space *s;
    char *_Atomic *places;
    uint64_t seed;
    atomic_size_t *running;
} worker;

static void *run_worker(void *context)
{
    worker *w = context;
    random_source source = random_from(w->seed);
    heap *h = heap_of(w->s);
    for (size_t step = 0; step < amount(40000); step++) {
        char *object = NULL;
        if (random_below(&source, 2) == 0)
            REQUIRE((object = heap_allocate(h, any_size(&source, 300 * KIB))) != NULL);
        object = atomic_exchange_explicit(&w->places[random_below(&source, PLACES)], object, memory_order_acq_rel);
        if (object != NULL)
            CHECK_OK(heap_free(h, object));
        if (step % 64 == 0)
            heap_tick(h);
        if (step % 1024 == 0)
            heap_trim(h);
    }
    heap_abandon(h);
    atomic_fetch_sub(w->running, 1);
    return NULL;
}

static void anyone_may_ask_while_others_work(void)
{
    check_seed = 92;
    space *s = space_new(512 * (size_t)MIB, 1, 5);
    static char *_Atomic places[PLACES];
    atomic_size_t running = WORKERS;
    worker workers[WORKERS];
    pthread_t threads[WORKERS];
    for (size_t i = 0; i < WORKERS; i++) {
        workers[i] = (worker){s, places, check_seed * 100 + i, &running};
        threads[i] = start(run_worker, &workers[i]);
    }
    uint64_t given = 0;
    while (atomic_load(&running) > 0) {
        space_stats stats = space_statistics(s);
        CHECK(stats.heaps <= WORKERS && stats.abandoned_heaps <= WORKERS);
        CHECK(stats.mapped_bytes <= stats.peak_mapped_bytes && stats.resting_bytes <= stats.mapped_bytes);
        CHECK(stats.large_bytes <= stats.mapped_bytes && stats.large_objects <= PLACES + WORKERS);
        CHECK(stats.given_back_bytes >= given);
        given = stats.given_back_bytes;
        sched_yield();
    }
    for (size_t i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    heap *h = heap_of(s);
    for (size_t i = 0; i < PLACES; i++)
        if (places[i] != NULL)
            CHECK_OK(heap_free(h, places[i]));
    CHECK_EQUAL(check_rows(s).live_objects, 0);
    space_destroy(s);
}

int main(void)
{
    alarm(300);
    RUN(objects_served_are_counted);
    RUN(resident_is_what_the_kernel_counts);
    RUN(rows_add_up);
    RUN(what_goes_back_is_counted);
    RUN(anyone_may_ask_while_others_work);
    return check_finish();
}
