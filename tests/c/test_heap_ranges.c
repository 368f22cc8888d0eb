/* SPDX-License-Identifier: MIT
 *
 * Further ranges of a space, and what the system refuses at any step: the caller gets NULL, and everything is in order,
 * then and when there is memory again.
 */
#include "limits.h"
#include "space_fixture.h"

enum { MOST = 20000 };

static size_t ranges_of(space *s) { return atomic_load(&s->range_count); }

/* Every object lies in one range; more than one have some. */
static void objects_of_all_kinds_in_further_ranges(void)
{
    enum { RANGES = 4 };
    check_seed = 71;
    random_source source = random_from(check_seed);
    space *s = space_new(RESERVE_LEAST, RANGES, 1000);
    heap *h = heap_of(s), *other = heap_of(s);
    static char *objects[MOST];
    size_t count = 0, in_range[RANGES] = {0};
    CHECK_EQUAL(space_statistics(s).reserved_bytes, RESERVE_LEAST);
    while (count < MOST) { /* until all ranges are used up; untouched but for the ends */
        size_t bytes = random_below(&source, 3) == 0 ? 1 + random_below(&source, HEAP_SMALL_BYTES)
                                                     : 60000 + random_below(&source, HEAP_MEDIUM_BYTES - 60000);
        char *object = objects[count] = heap_allocate(count % 5 == 0 ? other : h, bytes);
        if (object == NULL)
            break;
        object[0] = object[heap_usable_bytes(s, object) - 1] = (char)(count % 100);
        const range *r = space_range_of(s, (uintptr_t)object);
        REQUIRE(r != NULL);
        in_range[r - s->ranges]++;
        count++;
    }
    CHECK(count < MOST);
    CHECK_EQUAL(ranges_of(s), RANGES);
    for (size_t i = 0; i < RANGES; i++)
        CHECK(in_range[i] > 100);
    CHECK_HEAP(h, count);
    CHECK_HEAP(other, count);
    CHECK(space_statistics(s).mapped_bytes > space_statistics(s).reserved_bytes - 4 * (size_t)MIB);
    /* Large objects need no range. */
    char *large = heap_allocate(h, 3 * MIB);
    CHECK(large != NULL);
    CHECK_OK(heap_free(h, large));
    for (size_t i = 0; i < count; i++) {
        char *object = objects[i];
        size_t usable = heap_usable_bytes(s, object);
        CHECK(heap_owns(s, object) && heap_inspect(s, object + 1).object == object && heap_inspect(s, object).is_live);
        CHECK(object[0] == (char)(i % 100) && object[usable - 1] == (char)(i % 100));
        if (i % 16 == 0) {
            CHECK_STATUS(heap_free(h, object + 8), FREE_INTERIOR);
            CHECK_STATUS(heap_free_remote(s, object + 8), FREE_INTERIOR);
        }
        if (i % 3 == 0) { /* there is no other place for it, but where objects became free */
            slabmalloc_status status = SLABMALLOC_OK;
            char *moved = heap_reallocate(h, object, usable / 3 + 1, &status);
            CHECK_OK(status);
            REQUIRE(moved != NULL);
            CHECK(moved[0] == (char)(i % 100));
            object = moved;
        }
        CHECK_OK(i % 7 == 0 ? heap_free_remote(s, object) : heap_free(i % 2 ? h : other, object));
        CHECK(heap_free(h, object) != SLABMALLOC_OK);
        CHECK(heap_free(other, object) != SLABMALLOC_OK);
    }
    CHECK_HEAP(h, 0);
    CHECK_HEAP(other, 0);
    heap_trim(h);
    heap_trim(other);
    CHECK_EQUAL(space_statistics(s).mapped_bytes, 0);
    CHECK_EQUAL(ranges_of(s), RANGES); /* never removed */
    /* The first range comes first again. */
    char *object = heap_allocate(h, 100);
    CHECK(space_range_of(s, (uintptr_t)object) == &s->ranges[0]);
    CHECK_OK(heap_free(h, object));
    CHECK(!heap_owns(s, &object) && heap_free(h, &object) == SLABMALLOC_FREE_FOREIGN);
    space_destroy(s);
}

/* Ticks give back what rests in any range, in whole pages and in slabs. */
static void memory_of_further_ranges_goes_back(void)
{
    enum { COUNT = 1200, BYTES = 100000 };
    space *s = space_new(RESERVE_LEAST, 3, 20);
    heap *h = heap_of(s);
    static char *objects[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        REQUIRE((objects[i] = heap_allocate(h, BYTES)) != NULL);
    CHECK(ranges_of(s) >= 2);
    for (size_t i = 0; i < COUNT; i++)
        if (i % 100 != 0)
            CHECK_OK(heap_free(h, objects[i]));
    uint64_t end = clock_ms() + 4000;
    while (clock_ms() < end && space_statistics(s).resting_bytes > 0) {
        heap_tick(h);
        sleep_ms(1);
    }
    CHECK_EQUAL(space_statistics(s).resting_bytes, 0);
    CHECK_HEAP(h, COUNT / 100);
    CHECK(space_statistics(s).mapped_bytes <= (COUNT / 100 + 1) * HEAP_MEDIUM_PAGE_BYTES);
    space_destroy(s);
}

/* ---- where address space is limited ---- */

static char *limited_objects[MOST];
static space *limited_space; /* made before the limit; NULL: after */

/* Objects of all kinds until each kind is refused; then less, then more again. */
static int work_until_refused(void)
{
    static const size_t kinds[] = {100, 8000, 20000, 131072, 200000, 2000000};
    space_options options = space_options_default();
    options.reserve_bytes = RESERVE_LEAST;
    options.max_ranges = 3;
    space *s = limited_space != NULL ? limited_space : space_create(&options);
    heap *h = s == NULL ? NULL : heap_open(s, NULL);
    if (h == NULL) {
        if (s != NULL)
            space_destroy(s);
        return 0;
    }
    size_t count = 0, refused = 0, served[2] = {0, 0};
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; refused < 6 && count < MOST; i++) {
            char *object = heap_allocate(h, kinds[i % 6]);
            refused = object == NULL ? refused + 1 : 0; /* in a row: all kinds */
            if (object == NULL)
                continue;
            object[0] = object[kinds[i % 6] - 1] = (char)(count % 100);
            limited_objects[count++] = object;
        }
        CHECK(count < MOST);
        served[round] = count;
        CHECK_HEAP(h, count);
        CHECK_POINTER(heap_allocate_aligned(h, 3 * MIB, 2 * MIB), NULL);
        CHECK_POINTER(heap_allocate_zeroed(h, 3 * MIB), NULL);
        heap *second = heap_open(s, NULL); /* may be refused, or not */
        if (second != NULL) {
            CHECK_OK(count > 0 ? heap_free(second, limited_objects[--count]) : SLABMALLOC_OK);
            heap_abandon(second);
        }
        for (size_t i = 0; i < count; i++) {
            char *object = limited_objects[i];
            size_t usable = heap_usable_bytes(s, object);
            slabmalloc_status status = SLABMALLOC_OK;
            char *moved = heap_reallocate(h, object, i % 2 ? usable + 500 * KIB : usable / 4, &status);
            CHECK_OK(status);
            CHECK(moved != NULL || i % 2); /* to shrink never fails */
            if (moved == NULL) {
                CHECK_EQUAL(heap_usable_bytes(s, object), usable);
                CHECK_EQUAL(object[0], i % 100);
                CHECK(usable < 8000 || object[0] == (char)(i % 100));
            } else {
                CHECK_EQUAL(moved[0], i % 100);
                limited_objects[i] = moved;
            }
        }
        CHECK_HEAP(h, count);
        while (count > 0)
            CHECK_OK(count % 3 ? heap_free(h, limited_objects[--count])
                               : heap_free_remote(s, limited_objects[--count]));
        CHECK_HEAP(h, 0);
        for (int i = 0; i < 10; i++)
            heap_tick(h);
        heap_trim(h);
        refused = 0;
    }
    CHECK(served[1] * 10 >= served[0] * 9); /* nothing was lost on the way */
    CHECK_HEAP(h, 0);
    CHECK_EQUAL(space_statistics(s).mapped_bytes, 0);
    space_destroy(s);
    return 0;
}

/* Free memory of ours is no reason for the system to refuse: it goes back first. */
static int rest_then_ask(void)
{
    heap *h = heap_open(limited_space, NULL);
    REQUIRE(h != NULL);
    size_t count = 0;
    while (count < MOST && (limited_objects[count] = heap_allocate(h, 400 * KIB)) != NULL)
        count++;
    CHECK(count > 20 && count < MOST);
    for (size_t i = 0; i < count; i++)
        CHECK_OK(heap_free(h, limited_objects[i]));
    CHECK(heap_allocate(h, count * 200 * KIB) != NULL);
    CHECK_HEAP(h, 1);
    return 0;
}

/* Takes blocks of so many bytes until one is refused; returns how many there are. */
static size_t take_until_refused(heap *h, size_t bytes)
{
    size_t count = 0;
    while (count < MOST && (limited_objects[count] = heap_allocate(h, bytes)) != NULL)
        count++;
    CHECK(count < MOST);
    return count;
}

/* Bookkeeping is no reason either: for each block that rests there are three records more. */
static int rest_then_ask_for_more_records(void)
{
    heap *h = heap_open(limited_space, NULL);
    REQUIRE(h != NULL);
    size_t count = take_until_refused(h, 600 * KIB);
    for (size_t i = 0; i < count; i++)
        CHECK_OK(heap_free(h, limited_objects[i]));
    size_t others = take_until_refused(h, 148 * KIB);
    CHECK(others >= 4 * (count - count / 8));
    CHECK_HEAP(h, others);
    return 0;
}

/* Nor are the records of slabs, nor is a heap. */
static int rest_then_ask_for_slabs(void)
{
    heap *h = heap_open(limited_space, NULL);
    REQUIRE(h != NULL);
    size_t count = take_until_refused(h, 600 * KIB);
    for (size_t i = 0; i < count; i++)
        CHECK_OK(heap_free(h, limited_objects[i]));
    heap *other = heap_open(limited_space, NULL);
    REQUIRE(other != NULL);
    count = take_until_refused(h, 600 * KIB);
    for (size_t i = 0; i < count; i++)
        CHECK_OK(heap_free(h, limited_objects[i]));
    size_t slabs = RESERVE_LEAST / HEAP_PAGE_BYTES * 7 / 8;
    for (size_t i = 0; i < slabs * 16; i++)
        CHECK(heap_allocate(other, 4 * KIB) != NULL);
    CHECK_HEAP(other, slabs * 16);
    return 0;
}

/* The same for one that is to grow, with room for it but not for a copy. */
static int rest_then_grow(void)
{
    heap *h = heap_open(limited_space, NULL);
    REQUIRE(h != NULL);
    char *object = heap_allocate(h, 8 * MIB), *other = heap_allocate(h, 6 * MIB);
    REQUIRE(object != NULL && other != NULL);
    stamp(object, 8 * MIB, 3);
    CHECK_OK(heap_free(h, other));
    slabmalloc_status status = SLABMALLOC_OK;
    object = heap_reallocate(h, object, 12 * MIB, &status);
    CHECK_OK(status);
    CHECK(object != NULL && is_stamped(object, 8 * MIB, 3));
    CHECK_HEAP(h, 1);
    return 0;
}

static void what_rests_is_not_refused(void)
{
    if (!limits_are_kept())
        return;
    limited_space = space_new(RESERVE_LEAST, 1, 1000);
    CHECK_EQUAL(in_limited_child(16 * (size_t)MIB, rest_then_ask), 0);
    CHECK_EQUAL(in_limited_child(16 * (size_t)MIB, rest_then_grow), 0);
    for (size_t more = 0; more < 600 * KIB; more += 68 * KIB) {
        CHECK_EQUAL(in_limited_child(64 * (size_t)MIB + more, rest_then_ask_for_more_records), 0);
        CHECK_EQUAL(in_limited_child(64 * (size_t)MIB + more, rest_then_ask_for_slabs), 0);
    }
    space_destroy(limited_space);
}

static void every_step_may_be_refused(void)
{
    if (!limits_are_kept())
        return;
    for (size_t bytes = 0; bytes <= 4 * (size_t)MIB; bytes += 68 * KIB) { /* the space is there */
        limited_space = space_new(RESERVE_LEAST, 3, 1000);
        if (!CHECK_EQUAL(in_limited_child(bytes, work_until_refused), 0))
            printf("with %zu KiB\n", bytes / KIB);
        space_destroy(limited_space);
    }
    limited_space = NULL;
    for (size_t bytes = RESERVE_LEAST - MIB; bytes <= RESERVE_LEAST + 3 * (size_t)MIB; bytes += 36 * KIB)
        if (!CHECK_EQUAL(in_limited_child(bytes, work_until_refused), 0))
            printf("with %zu KiB\n", bytes / KIB);
    for (size_t bytes = 70 * (size_t)MIB; bytes <= 200 * (size_t)MIB;
         bytes += 26 * MIB) /* a further range, smaller ones */
        if (!CHECK_EQUAL(in_limited_child(bytes, work_until_refused), 0))
            printf("with %zu KiB\n", bytes / KIB);
}

/* Each range is as large as all before it. */
static void a_small_reserve_is_no_limit(void)
{
    enum { BYTES = 100000, COUNT = 10000 }; /* untouched but for their links: addresses, no memory */
    space *s = space_new(RESERVE_LEAST, SPACE_MAX_RANGES, 1000);
    heap *h = heap_of(s);
    void **last = NULL;
    for (size_t i = 0; i < COUNT; i++) {
        void **block = heap_allocate(h, BYTES);
        REQUIRE(block != NULL);
        *block = last;
        last = block;
    }
    CHECK(ranges_of(s) < 12);
    CHECK_HEAP(h, COUNT);
    for (void **next; last != NULL; last = next) {
        next = *last;
        CHECK_OK(heap_free(h, last));
    }
    CHECK_HEAP(h, 0);
    space_destroy(s);
}

int main(void)
{
    RUN(objects_of_all_kinds_in_further_ranges);
    RUN(memory_of_further_ranges_goes_back);
    RUN(what_rests_is_not_refused);
    RUN(every_step_may_be_refused);
    RUN(a_small_reserve_is_no_limit);
    return check_finish();
}
