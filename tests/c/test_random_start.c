/* SPDX-License-Identifier: MIT
 *
 * Random start: slabs are first filled from a random slot on. Nothing else about a zone changes.
 */
#include "fixture.h"

#include <pthread.h>

enum { SIZE = 64 };

static slabmalloc_zone *zone_random(uint64_t seed)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.random_start = true;
    options.seed = seed;
    return zone_new(&options);
}

/* The first slot that is used of a fresh page. */
static size_t first_slot(uint64_t seed, char *page)
{
    slabmalloc_zone *zone = zone_random(seed);
    CHECK_OK(slabmalloc_zone_refill(zone, SIZE, 8, page, 4096));
    size_t slot = (size_t)((char *)slabmalloc_zone_allocate(zone, SIZE, 8) - page) / SIZE;
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    return slot;
}

static void starts_differ_and_repeat(void)
{
    char *page = object_page();
    size_t capacity = page_layout_of(SIZE, 4096).capacity, distinct = 0;
    bool seen[64] = {false};
    for (uint64_t seed = 0; seed < 400; seed++) {
        size_t slot = first_slot(seed, page);
        CHECK(slot < capacity);
        CHECK_EQUAL(first_slot(seed, page), slot); /* the same seed starts the same */
        distinct += !seen[slot];
        seen[slot] = true;
    }
    CHECK(distinct == 8); /* one of the last 8 of the page's one word */
    memory_free(page, 4096);
}

static void slabs_of_one_zone_start_differently(void)
{
    enum { PAGES = 40 };
    slabmalloc_zone *zone = zone_random(1);
    char *pages = memory_new(4096 * PAGES, 4096);
    size_t capacity = page_layout_of(SIZE, 4096).capacity, distinct = 0;
    bool seen[64] = {false};
    for (size_t p = 0; p < PAGES; p++) {
        CHECK_OK(slabmalloc_zone_refill(zone, SIZE, 8, pages + 4096 * p, 4096));
        for (size_t i = 0; i < capacity; i++) {
            size_t slot = (size_t)((char *)slabmalloc_zone_allocate(zone, SIZE, 8) - pages) % 4096 / SIZE;
            if (i == 0) {
                distinct += !seen[slot];
                seen[slot] = true;
            }
        }
    }
    CHECK(distinct > 6);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    memory_free(pages, 4096 * PAGES);
}

static void every_slot_is_used_once(void)
{
    char *page = object_page();
    size_t capacity = page_layout_of(SIZE, 4096).capacity;
    for (uint64_t seed = 0; seed < 50; seed++) {
        check_seed = seed;
        slabmalloc_zone *zone = zone_random(seed);
        CHECK_OK(slabmalloc_zone_refill(zone, SIZE, 8, page, 4096));
        bool seen[64] = {false};
        for (size_t i = 0; i < capacity; i++) {
            char *object = slabmalloc_zone_allocate(zone, SIZE, 8);
            size_t slot = (size_t)(object - page) / SIZE;
            if (!CHECK(object >= page && slot < capacity && !seen[slot] && (size_t)(object - page) % SIZE == 0))
                break;
            seen[slot] = true;
            CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, i + 1);
            if (i % 8 == 0)
                CHECK_CONSERVED(zone);
        }
        CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), NULL);
        CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).full_pages, 1);
        for (size_t i = 0; i < capacity; i++)
            CHECK_OK(slabmalloc_zone_deallocate(zone, page + SIZE * ((i * 5 + 3) % capacity), SIZE, 8));
        CHECK_CONSERVED(zone);
        page_list back = {0};
        CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, 9, page_list_add, &back), 1);
        slabmalloc_zone_destroy(zone);
    }
    memory_free(page, 4096);
}

typedef struct remote_call {
    slabmalloc_zone *zone;
    void *object;
    slabmalloc_status status;
} remote_call;

static void *free_remotely(void *context)
{
    remote_call *call = context;
    call->status = slabmalloc_zone_deallocate(call->zone, call->object, SIZE, 8);
    return NULL;
}

/* Slots before the start are free, too: whoever frees them gets told. */
static void slots_before_the_start_are_free(void)
{
    char *page = object_page();
    size_t capacity = page_layout_of(SIZE, 4096).capacity;
    for (uint64_t seed = 0; seed < 20; seed++) {
        check_seed = seed;
        slabmalloc_zone *zone = zone_random(seed);
        CHECK_OK(slabmalloc_zone_refill(zone, SIZE, 8, page, 4096));
        char *object = slabmalloc_zone_allocate(zone, SIZE, 8);
        for (size_t i = 0; i < capacity; i++) {
            char *other = page + SIZE * i;
            if (other == object)
                continue;
            CHECK(!slabmalloc_zone_inspect(zone, other).is_live);
            CHECK_STATUS(slabmalloc_zone_deallocate(zone, other, SIZE, 8), FREE_DOUBLE);
            remote_call call = {zone, other, SLABMALLOC_OK};
            pthread_t thread;
            REQUIRE(pthread_create(&thread, NULL, free_remotely, &call) == 0);
            pthread_join(thread, NULL);
            CHECK_STATUS(call.status, FREE_DOUBLE);
            void *many[2] = {object, other};
            size_t bad = 0;
            CHECK_STATUS(slabmalloc_zone_deallocate_many(zone, many, 2, SIZE, 8, &bad), FREE_DOUBLE);
            CHECK_EQUAL(bad, 1);
        }
        CHECK(slabmalloc_zone_inspect(zone, object).is_live);
        CHECK_EQUAL(slabmalloc_zone_collect(zone), 0);
        CHECK_CONSERVED(zone);
        CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, 1);
        CHECK_OK(slabmalloc_zone_deallocate(zone, object, SIZE, 8));
        CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).empty_pages, 1);
        slabmalloc_zone_destroy(zone);
    }
    memory_free(page, 4096);
}

static void keep(void *context, void *page, size_t page_bytes, size_t live)
{
    (void)page;
    (void)page_bytes;
    *(size_t *)context += live;
}

/* A page that leaves its zone half-filled carries all its free slots. */
static void a_detached_page_is_whole(void)
{
    char *page = object_page();
    size_t capacity = page_layout_of(SIZE, 4096).capacity;
    for (uint64_t seed = 0; seed < 30; seed++) {
        check_seed = seed;
        slabmalloc_zone *zone = zone_random(seed);
        CHECK_OK(slabmalloc_zone_refill(zone, SIZE, 8, page, 4096));
        for (int i = 0; i < 3; i++)
            CHECK(slabmalloc_zone_allocate(zone, SIZE, 8) != NULL);
        size_t live = 0;
        slabmalloc_zone_detach(zone, keep, &live);
        CHECK_EQUAL(live, 3);
        zone = zone_random(seed + 1);
        CHECK_OK(slabmalloc_zone_restore(zone, page, 4096));
        CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, 3);
        for (size_t i = 3; i < capacity; i++)
            CHECK(slabmalloc_zone_allocate(zone, SIZE, 8) != NULL);
        CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), NULL);
        CHECK_CONSERVED(zone);
        slabmalloc_zone_destroy(zone);
    }
    memory_free(page, 4096);
}

/* A slab of more slots begins at the lowest one: its levels in the page could not tell where a start was. */
static void deep_slabs_start_at_their_lowest_slot(void)
{
    enum { PAGE = 1 << 20 };
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.classes.base_page_bytes = PAGE;
    options.random_start = true;
    char *page = memory_new(PAGE, PAGE);
    for (uint64_t seed = 1; seed < 20; seed++) {
        check_seed = options.seed = seed;
        slabmalloc_zone *zone = zone_new(&options);
        CHECK_OK(slabmalloc_zone_refill(zone, 16, 8, page, PAGE));
        void *first = slabmalloc_zone_allocate(zone, 16, 8);
        CHECK_POINTER(first, page);
        CHECK(slabmalloc_zone_allocate(zone, 16, 8) != NULL);
        CHECK_OK(slabmalloc_zone_deallocate(zone, first, 16, 8));
        CHECK_SOUND(zone);
        slabmalloc_zone_destroy(zone);
    }
    memory_free(page, PAGE);
}

/* Random work on several classes and pages: a shadow table of live objects, conservation after each step. */
static void random_work_holds(void)
{
    enum { LIVE = 600, STEPS = 6000 };
    static struct {
        char *object;
        size_t size;
    } live[LIVE];
    static const size_t sizes[] = {8, 64, 100, 256, 1000};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        check_seed = seed;
        random_source source = random_from(seed);
        test_pager *pager = test_pager_new();
        slabmalloc_zone_options options = slabmalloc_zone_options_default();
        slabmalloc_pager calls = test_pager_of(pager);
        options.pager = &calls;
        options.random_start = true;
        options.seed = seed;
        slabmalloc_zone *zone = zone_new(&options);
        size_t count = 0;
        for (int step = 0; step < STEPS; step++) {
            bool grow = count == 0 || (count < LIVE && random_below(&source, 100) < (step / 1000 % 2 == 0 ? 70u : 30u));
            if (grow) {
                size_t size = sizes[random_below(&source, 5)];
                char *object = slabmalloc_zone_allocate(zone, size, 8);
                REQUIRE(object != NULL);
                memset(object, (int)(count % 100), size);
                live[count].object = object;
                live[count++].size = size;
            } else {
                size_t i = random_below(&source, count);
                CHECK(live[i].object[0] == live[i].object[live[i].size - 1]);
                CHECK_OK(slabmalloc_zone_deallocate(zone, live[i].object, live[i].size, 8));
                CHECK_STATUS(slabmalloc_zone_deallocate(zone, live[i].object, live[i].size, 8), FREE_DOUBLE);
                live[i] = live[--count];
            }
            if (step % 500 == 0)
                slabmalloc_zone_reclaim(zone, -1, 4096, 2, NULL, NULL);
            CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, count);
            if (step % 10 == 0)
                CHECK_CONSERVED(zone);
        }
        slabmalloc_zone_destroy(zone);
        test_pager_end(pager);
    }
}

int main(void)
{
    RUN(starts_differ_and_repeat);
    RUN(slabs_of_one_zone_start_differently);
    RUN(every_slot_is_used_once);
    RUN(slots_before_the_start_are_free);
    RUN(a_detached_page_is_whole);
    RUN(deep_slabs_start_at_their_lowest_slot);
    RUN(random_work_holds);
    return check_finish();
}
