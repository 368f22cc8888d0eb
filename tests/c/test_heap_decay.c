/* SPDX-License-Identifier: MIT
 *
 * Memory that goes back by ticks alone: whole pages, large objects, OS pages inside slabs and inside the current one;
 * not while it is needed, at once if so asked, and never much in one tick.
 */
#include "space_fixture.h"

enum { DECAY_MS = 60, FEW_WINDOWS = 25 };

/* Ticks until `done`, for a few windows at most, or, where the machine was away for so long, some turns; false: it
 * isn't by then. */
static bool tick_until(heap *h, bool (*done)(const heap *h, const void *context), const void *context)
{
    uint64_t end = clock_ms() + FEW_WINDOWS * DECAY_MS;
    for (int turn = 0; (clock_ms() < end || turn < 2 * FEW_WINDOWS) && !done(h, context); turn++) {
        for (int i = 0; i < 20; i++)
            heap_tick(h);
        sleep_ms(1);
    }
    return done(h, context);
}

static bool nothing_rests(const heap *h, const void *context)
{
    (void)context;
    return space_statistics(h->space).resting_bytes == 0;
}

/* Frees all but each `kept`th; 0: all. */
static void objects_free(heap *h, char **objects, size_t count, size_t kept)
{
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || i % kept != 0)
            CHECK_OK(heap_free(h, objects[i]));
}

static void whole_pages_go_back_within_a_few_windows(void)
{
    static const size_t sizes[] = {64, 5000, 40000, 300000};
    for (size_t k = 0; k < 4; k++) {
        space *s = space_new(RESERVE_LEAST, 1, DECAY_MS);
        heap *h = heap_of(s);
        size_t count = 24 * (size_t)MIB / sizes[k];
        char **objects = objects_new(h, count, sizes[k]);
        size_t mapped = space_statistics(s).mapped_bytes;
        uint64_t begin = clock_ms(), given = space_statistics(s).given_back_bytes;
        objects_free(h, objects, count, 0);
        space_stats stats = space_statistics(s);
        if (clock_ms() - begin < DECAY_MS / 4) {
            /* It does rest, for the next who needs it (large objects to their bound), and no slab has been swept
             * yet. */
            CHECK_EQUAL(stats.mapped_bytes + stats.given_back_bytes - given, mapped);
            CHECK(stats.resting_bytes >= 20 * (size_t)MIB);
        }
        CHECK(tick_until(h, nothing_rests, NULL));
        CHECK(space_statistics(s).mapped_bytes <= 2 * (sizes[k] > HEAP_SMALL_BYTES ? (size_t)MIB : HEAP_PAGE_BYTES));
        CHECK(space_statistics(s).given_back_bytes - given >= 22 * (size_t)MIB);
        CHECK_HEAP(h, 0);
        free(objects);
        space_destroy(s);
    }
}

typedef struct extent {
    char *begin;
    size_t bytes, most; /* resident bytes wanted */
} extent;

static extent extent_of(char **objects, size_t count)
{
    char *low = objects[0], *high = objects[0];
    for (size_t i = 0; i < count; i++) {
        low = objects[i] < low ? objects[i] : low;
        high = objects[i] > high ? objects[i] : high;
    }
    char *begin = (char *)((uintptr_t)low & ~(HEAP_PAGE_BYTES - 1));
    return (extent){begin, ((size_t)(high - begin) / HEAP_PAGE_BYTES + 1) * HEAP_PAGE_BYTES, 0};
}

static bool little_is_resident(const heap *h, const void *context)
{
    const extent *e = context;
    (void)h;
    return resident_of(e->begin, e->bytes) <= e->most;
}

/* One in KEPT survives: most OS pages have none. Twice, since what was purged and used again must go again. */
static void partial_slabs_go_back(size_t bytes, size_t count, size_t kept)
{
    space *s = space_new(RESERVE_LEAST, 1, DECAY_MS);
    heap *h = heap_of(s);
    char **objects = objects_new(h, count, bytes);
    for (int round = 0; round < 2; round++) {
        extent e = extent_of(objects, count);
        size_t before = resident_of(e.begin, e.bytes);
        CHECK(before >= count * bytes);
        e.most = before / 3;
        objects_free(h, objects, count, kept);
        CHECK(tick_until(h, little_is_resident, &e));
        CHECK_HEAP(h, (count + kept - 1) / kept);
        for (size_t i = 0; i < count; i++) {
            if (i % kept == 0)
                CHECK((unsigned char)objects[i][0] == i % 250 + 1 &&
                      (unsigned char)objects[i][bytes - 1] == i % 250 + 1);
            else
                REQUIRE((objects[i] = heap_allocate(h, bytes)) != NULL);
            memset(objects[i], (int)(i % 250 + 1), bytes);
        }
    }
    objects_free(h, objects, count, 0);
    CHECK_HEAP(h, 0);
    free(objects);
    space_destroy(s);
}

static void partial_slabs_of_small_objects_go_back(void) { partial_slabs_go_back(96, 100000, 400); }
static void partial_slabs_of_medium_objects_go_back(void) { partial_slabs_go_back(40000, 300, 26); }

/* The owner is gone, and others free: whoever ticks does it for him. */
static void partial_slabs_of_an_abandoned_heap_go_back(void)
{
    enum { COUNT = 60000, BYTES = 96, KEPT = 400 };
    space *s = space_new(RESERVE_LEAST, 1, DECAY_MS);
    heap *h = heap_of(s), *other = heap_of(s);
    char **objects = objects_new(other, COUNT, BYTES);
    extent e = extent_of(objects, COUNT);
    e.most = resident_of(e.begin, e.bytes) / 3;
    heap_abandon(other);
    objects_free(h, objects, COUNT, KEPT);
    CHECK(tick_until(h, little_is_resident, &e));
    CHECK_HEAP(h, COUNT / KEPT);
    for (size_t i = 0; i < COUNT; i += KEPT)
        CHECK((unsigned char)objects[i][0] == i % 250 + 1 && (unsigned char)objects[i][BYTES - 1] == i % 250 + 1);
    free(objects);
    space_destroy(s);
}

static bool little_is_mapped(const heap *h, const void *context)
{
    (void)context;
    space_stats stats = space_statistics(h->space);
    return stats.mapped_bytes - stats.resting_bytes <= 2 * (size_t)MIB;
}

/* The owner goes on, but needs nothing of the kind any more: he collects it all the same. */
static void what_others_freed_goes_back(void)
{
    static const size_t sizes[] = {96, 5000, 40000};
    for (size_t k = 0; k < 3; k++) {
        space *s = space_new(RESERVE_LEAST, 1, DECAY_MS);
        heap *h = heap_of(s), *other = heap_of(s);
        size_t count = 24 * (size_t)MIB / sizes[k];
        char **objects = objects_new(other, count, sizes[k]);
        objects_free(h, objects, count, 0);
        CHECK(tick_until(other, little_is_mapped, NULL));
        CHECK(tick_until(other, nothing_rests, NULL));
        CHECK_HEAP(h, 0);
        CHECK_HEAP(other, 0);
        free(objects);
        space_destroy(s);
    }
}

/* All objects of the class lie in the current slab, or the one before: no other slab ever takes them over. */
static void current_slabs_go_back(bool is_all_there_is)
{
    enum { CLASSES = 3, OTHERS = 1000 };
    static const size_t sizes[CLASSES] = {1024, 4096, 40960};
    for (size_t k = 0; k < CLASSES; k++) {
        space *s = space_new(RESERVE_LEAST, 1, DECAY_MS);
        heap *h = heap_of(s);
        size_t page = sizes[k] > HEAP_SMALL_BYTES ? HEAP_MEDIUM_PAGE_BYTES : HEAP_PAGE_BYTES;
        size_t count = page / sizes[k] - 1;
        char **objects = objects_new(h, count, sizes[k]);
        extent e = extent_of(objects, count);
        size_t before = resident_of(e.begin, e.bytes);
        CHECK(before >= count * sizes[k]);
        e.most = sizes[k] + 3 * 4096 + before / 8;
        /* Then the slab serves on, and can go back again. */
        for (int round = 0; round < 2; round++) {
            char **others = is_all_there_is ? NULL : objects_new(h, OTHERS, 300);
            objects_free(h, objects, count, count); /* the first one stays */
            if (others != NULL)
                objects_free(h, others, OTHERS, 0);
            free(others);
            if (!CHECK(tick_until(h, little_is_resident, &e))) {
                printf("%zu bytes: %zu of %zu resident\n", sizes[k], resident_of(e.begin, e.bytes), before);
                break;
            }
            CHECK_HEAP(h, 1);
            CHECK(objects[0][0] == 1 && objects[0][sizes[k] - 1] == 1);
            for (size_t i = 1; i < count; i++) {
                REQUIRE((objects[i] = heap_allocate(h, sizes[k])) != NULL);
                memset(objects[i], 9, sizes[k]);
            }
        }
        free(objects);
        space_destroy(s);
    }
}

static void current_slabs_go_back_among_others(void) { current_slabs_go_back(false); }
static void current_slabs_go_back_that_are_all_there_is(void) { current_slabs_go_back(true); }

/* Work that comes again and again, several times in a window, keeps its memory. */
static void what_is_needed_again_stays(void)
{
    enum { BYTES = 4000, COUNT = 2000 };
    space *s = space_new(RESERVE_LEAST, 1, 400);
    heap *h = heap_of(s);
    uint64_t begin = clock_ms(), given = space_statistics(s).given_back_bytes, longest = 0, cycles = 0, before = begin;
    while (clock_ms() < begin + 900) {
        char **objects = objects_new(h, COUNT, BYTES);
        objects_free(h, objects, COUNT, 0);
        free(objects);
        sleep_ms(8);
        for (int i = 0; i < 20; i++)
            heap_tick(h); /* all of it rests now, but did not just before */
        uint64_t now = clock_ms();
        longest = now - before > longest ? now - before : longest;
        before = now;
        cycles++;
    }
    given = space_statistics(s).given_back_bytes - given;
    if (longest < 100) /* a machine that was away for so long says nothing */
        CHECK(given < (size_t)COUNT * BYTES / 2 && cycles > 8);
    space_destroy(s);
}

/* Large objects: as much as may rest by the bound, or by what is live now; what was live once doesn't count. */
static void large_objects_rest_within_the_bound(void)
{
    enum { PAGES = 400, LARGE = 30 };
    space *s = space_new(RESERVE_LEAST, 8, 1000000);
    s->options.rest_bound_bytes = 2 * MIB;
    heap *h = heap_of(s);
    static char *pages[PAGES], *large[LARGE];
    for (int round = 0; round < 2; round++) {
        size_t live = 0;
        for (size_t i = 0; round == 0 && i < PAGES; i++)
            REQUIRE((pages[i] = heap_allocate(h, HEAP_MEDIUM_BYTES)) != NULL);
        for (size_t i = 0; i < LARGE; i++)
            REQUIRE((large[i] = heap_allocate(h, MIB)) != NULL);
        for (size_t i = 0; i < LARGE; i++)
            CHECK_OK(heap_free(h, large[i]));
        live = space_statistics(s).mapped_bytes - space_statistics(s).resting_bytes;
        size_t rests = s->large.resting_bytes, most = live / 8 > 2 * (size_t)MIB ? live / 8 : 2 * (size_t)MIB;
        CHECK(rests <= most && rests >= most - 2 * (size_t)MIB);
        for (size_t i = 0; round == 0 && i < PAGES; i++)
            CHECK_OK(heap_free(h, pages[i]));
        heap_trim(h);
        CHECK_EQUAL(space_statistics(s).mapped_bytes, 0);
    }
    space_destroy(s);
}

/* Pages too, but for a chunk, and the one that has just come. */
static void pages_rest_within_the_bound(void)
{
    enum { COUNT = 40000, BYTES = 1000 };
    space *s = space_new(RESERVE_LEAST, 8, 1000000);
    s->options.rest_bound_bytes = 3 * MIB;
    heap *h = heap_of(s);
    char **objects = objects_new(h, COUNT, BYTES);
    size_t most = 0;
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_OK(heap_free(h, objects[i]));
        space_stats stats = space_statistics(s);
        size_t in_use = stats.mapped_bytes - stats.resting_bytes,
               bound = in_use / 8 > 3 * (size_t)MIB ? in_use / 8 : 3 * (size_t)MIB;
        CHECK(stats.resting_bytes < bound + ARENA_CHUNK_BYTES);
        most = stats.resting_bytes > most ? stats.resting_bytes : most;
    }
    CHECK(most > 4 * MIB && space_statistics(s).resting_bytes >= 3 * MIB);
    CHECK(space_statistics(s).given_back_bytes > 20 * MIB);
    free(objects);
    space_destroy(s);
}

static void at_once_if_so_asked(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 0);
    heap *h = heap_of(s);
    char **objects = objects_new(h, 10000, 1000), *large = heap_allocate(h, 5 * MIB), *medium = heap_allocate(h, 50000);
    memset(large, 1, 5 * MIB);
    memset(medium, 1, 50000);
    size_t mapped = space_statistics(s).mapped_bytes;
    CHECK_OK(heap_free(h, large));
    CHECK_EQUAL(space_statistics(s).mapped_bytes, mapped - 5 * MIB);
    objects_free(h, objects, 10000, 0);
    CHECK_OK(heap_free(h, medium));
    space_stats stats = space_statistics(s);
    CHECK_EQUAL(stats.resting_bytes, 0);
    CHECK(stats.mapped_bytes <= 2 * HEAP_PAGE_BYTES + HEAP_MEDIUM_PAGE_BYTES); /* a class keeps a page */
    size_t given = heap_trim(h);
    CHECK_EQUAL(space_statistics(s).mapped_bytes, 0);
    CHECK_EQUAL(space_statistics(s).given_back_bytes, stats.given_back_bytes + given); /* what trim says is all of it */
    free(objects);
    space_destroy(s);
}

/* Never much in one tick, whatever there is to do; but all of it in the end. */
static void a_tick_is_small(bool of_another)
{
    enum { MOST = 40 * MIB };
    size_t count = (UNDER_ASAN || UNDER_TSAN ? 96 : 160) * (size_t)MIB / 1000;
    static const uint32_t decays[] = {40, 0};
    for (size_t d = 0; d < 2; d++) {
        space *s = space_new(256 * (size_t)MIB, 1, decays[d]);
        heap *h = heap_of(s), *other = heap_of(s);
        char **objects = objects_new(of_another ? other : h, count, 1000);
        heap_abandon(other);
        objects_free(h, objects, count, 0);
        uint64_t most = 0, given = space_statistics(s).given_back_bytes;
        for (int tick = 0; tick < 3000; tick++) {
            heap_tick(h);
            uint64_t now = space_statistics(s).given_back_bytes;
            most = now - given > most ? now - given : most;
            given = now;
            if (tick % 100 == 99)
                sleep_ms(6);
        }
        if (!CHECK(most <= MOST))
            printf("decay of %u ms: %" PRIu64 " KiB in one tick\n", decays[d], most / 1024);
        CHECK(given >= count * 900);
        free(objects);
        space_destroy(s);
    }
}

/* Nor in the allocation that finds what others have freed, of however many slabs. */
static void little_goes_back_in_a_call_that_collects(void)
{
    enum { BYTES = 1000, MOST = 2 * MIB };
    size_t count = (UNDER_ASAN || UNDER_TSAN ? 96 : 160) * (size_t)MIB / BYTES, calls = 0;
    space *s = space_new(256 * (size_t)MIB, 1, 1000);
    heap *h = heap_of(s), *other = heap_of(s);
    char **objects = objects_new(other, count, BYTES);
    objects_free(h, objects, count, 0);
    uint64_t most = 0, given = space_statistics(s).given_back_bytes;
    for (; calls < 2 * HEAP_PAGE_BYTES / BYTES; calls++) {
        REQUIRE((objects[calls] = heap_allocate(other, BYTES)) != NULL);
        uint64_t now = space_statistics(s).given_back_bytes;
        most = now - given > most ? now - given : most;
        given = now;
    }
    CHECK_EQUAL(space_statistics(s).live_objects, calls);
    if (!CHECK(most <= MOST))
        printf("%" PRIu64 " KiB in one call\n", most / 1024);
    objects_free(other, objects, calls, 0);
    CHECK_HEAP(other, 0);
    free(objects);
    space_destroy(s);
}

static bool is_idle(const heap *h, const void *context)
{
    (void)context;
    return h->idle_ms == space_now_ms();
}

/* And once a moment: the next ticks of the same moment look at no slab again, be it theirs or an abandoned heap's. */
static void at_once_is_once_a_moment(void)
{
    enum { BYTES = 300, COUNT = 20000, ABANDONED = 3 };
    space *s = space_new(RESERVE_LEAST, 1, 0);
    heap *h = heap_of(s);
    char **objects = objects_new(h, COUNT, BYTES), **others[ABANDONED];
    for (size_t i = 0; i < ABANDONED; i++) {
        heap *other = heap_of(s);
        others[i] = objects_new(other, COUNT, BYTES);
        objects_free(other, others[i], COUNT, 100);
        heap_abandon(other);
    }
    objects_free(h, objects, COUNT, 100);
    CHECK(tick_until(h, is_idle, NULL));
    for (size_t i = 0; i < ABANDONED; i++)
        free(others[i]);
    free(objects);
    space_destroy(s);
}

static void a_tick_is_small_among_own_pages(void) { a_tick_is_small(false); }
static void a_tick_is_small_that_tends_an_abandoned_heap(void) { a_tick_is_small(true); }

int main(void)
{
    RUN(whole_pages_go_back_within_a_few_windows);
    RUN(partial_slabs_of_small_objects_go_back);
    RUN(partial_slabs_of_medium_objects_go_back);
    RUN(partial_slabs_of_an_abandoned_heap_go_back);
    RUN(what_others_freed_goes_back);
    RUN(current_slabs_go_back_among_others);
    RUN(current_slabs_go_back_that_are_all_there_is);
    RUN(what_is_needed_again_stays);
    RUN(large_objects_rest_within_the_bound);
    RUN(pages_rest_within_the_bound);
    RUN(at_once_if_so_asked);
    RUN(at_once_is_once_a_moment);
    RUN(a_tick_is_small_among_own_pages);
    RUN(a_tick_is_small_that_tends_an_abandoned_heap);
    RUN(little_goes_back_in_a_call_that_collects);
    return check_finish();
}
