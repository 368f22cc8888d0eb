/* SPDX-License-Identifier: MIT
 *
 * allocate_many and deallocate_many: the same addresses as one by one, and all or nothing.
 */
#include "fixture.h"

enum { SIZE = 32, COUNT = 1000 };

static int by_address(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    return (x > y) - (x < y);
}

/* Two zones over pages at different addresses; slots are compared by page number and offset. */
static void many_is_as_many_single_ones(void)
{
    enum { PAGES = 12 };
    check_seed = 3;
    random_source source = random_from(check_seed);
    slabmalloc_zone *one = zone_default(), *many = zone_default();
    char *one_pages = memory_new(4096 * PAGES, 4096), *many_pages = memory_new(4096 * PAGES, 4096);
    for (size_t i = 0; i < PAGES; i++) {
        CHECK_OK(slabmalloc_zone_refill(one, SIZE, 8, one_pages + 4096 * i, 4096));
        CHECK_OK(slabmalloc_zone_refill(many, SIZE, 8, many_pages + 4096 * i, 4096));
    }
    static void *objects[PAGES * 200];
    size_t live = 0, limit = PAGES * page_layout_of(SIZE, 4096).capacity;
    for (int round = 0; round < 300; round++) {
        size_t wanted = random_below(&source, 200), expected = wanted < limit - live ? wanted : limit - live;
        CHECK_EQUAL(slabmalloc_zone_allocate_many(many, SIZE, 8, objects + live, wanted), expected);
        for (size_t i = 0; i < expected; i++) {
            char *single = slabmalloc_zone_allocate(one, SIZE, 8);
            CHECK_EQUAL((char *)objects[live + i] - many_pages, single - one_pages);
        }
        live += expected;
        size_t freed = random_below(&source, live + 1);
        for (size_t i = 0; i < freed; i++) { /* `freed` random ones to the end */
            size_t other = random_below(&source, live - i);
            void *object = objects[other];
            objects[other] = objects[live - 1 - i];
            objects[live - 1 - i] = object;
            CHECK_OK(slabmalloc_zone_deallocate(one, one_pages + ((char *)object - many_pages), SIZE, 8));
        }
        live -= freed;
        /* In the order of the frees above. */
        for (size_t i = 0; i < freed / 2; i++) {
            void *object = objects[live + i];
            objects[live + i] = objects[live + freed - 1 - i];
            objects[live + freed - 1 - i] = object;
        }
        size_t bad = 12345;
        CHECK_OK(slabmalloc_zone_deallocate_many(many, objects + live, freed, SIZE, 8, &bad));
        CHECK_CONSERVED(many);
        CHECK_EQUAL(slabmalloc_zone_stats(many, -1).live_objects, live);
    }
    slabmalloc_zone_destroy(one);
    slabmalloc_zone_destroy(many);
    memory_free(one_pages, 4096 * PAGES);
    memory_free(many_pages, 4096 * PAGES);
}

static void an_invalid_layout_gets_none(void)
{
    test_pager *pager = test_pager_new();
    slabmalloc_zone *zone = zone_on_pager(pager);
    void *objects[4] = {0};
    CHECK_EQUAL(slabmalloc_zone_allocate_many(zone, 0, 8, objects, 4), 0);
    CHECK_EQUAL(slabmalloc_zone_allocate_many(zone, 8, 3, objects, 4), 0);
    CHECK_EQUAL(slabmalloc_zone_allocate_many(zone, 131073, 8, objects, 4), 0);
    CHECK_EQUAL(slabmalloc_zone_allocate_many(zone, 8, 8, objects, 0), 0);
    CHECK_EQUAL(slabmalloc_zone_allocate_many(zone, 8, 8, NULL, 0), 0);
    CHECK(objects[0] == NULL);
    CHECK_EQUAL(slabmalloc_zone_allocate_many(zone, 8, 8, objects, 4), 4);
    size_t bad = 77;
    CHECK_STATUS(slabmalloc_zone_deallocate_many(zone, objects, 4, 0, 8, &bad), INVALID_LAYOUT);
    CHECK_STATUS(slabmalloc_zone_deallocate_many(zone, objects, 4, 8, 3, NULL), INVALID_LAYOUT);
    CHECK_OK(slabmalloc_zone_deallocate_many(zone, NULL, 0, 8, 8, NULL));
    CHECK_OK(slabmalloc_zone_deallocate_many(zone, objects, 4, 8, 8, NULL));
    CHECK_STATUS(slabmalloc_zone_deallocate_many(zone, objects, 4, 8, 8, NULL), FREE_DOUBLE);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    test_pager_end(pager);
}

static void the_pager_running_out_leaves_a_part(void)
{
    test_pager *pager = test_pager_new();
    pager->max_pages = 3;
    slabmalloc_zone *zone = zone_on_pager(pager);
    size_t capacity = page_layout_of(SIZE, 4096).capacity;
    static void *objects[COUNT];
    CHECK_EQUAL(slabmalloc_zone_allocate_many(zone, SIZE, 8, objects, COUNT), 3 * capacity);
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, 3 * capacity);
    CHECK_CONSERVED(zone);
    CHECK_OK(slabmalloc_zone_deallocate_many(zone, objects, 3 * capacity, SIZE, 8, NULL));
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, 0);
    slabmalloc_zone_destroy(zone);
    test_pager_end(pager);
}

static slabmalloc_zone *zone_with_objects(test_pager *pager, void **objects)
{
    slabmalloc_zone *zone = zone_on_pager(pager);
    CHECK_EQUAL(slabmalloc_zone_allocate_many(zone, SIZE, 8, objects, COUNT), COUNT);
    return zone;
}

/* Objects, one of them at fault: which, and that everything is as before, to the next address. */
static void check_fault(void **objects, size_t at, void *fault, slabmalloc_status expected)
{
    test_pager *pager = test_pager_new();
    slabmalloc_zone *zone = zone_with_objects(pager, objects);
    void *elsewhere = slabmalloc_zone_allocate(zone, 200, 8);
    (void)elsewhere;
    CHECK_OK(slabmalloc_zone_deallocate(zone, objects[COUNT - 1], SIZE, 8));
    void *expected_next = objects[COUNT - 1];
    slabmalloc_class_stats before = slabmalloc_zone_stats(zone, -1);
    void *original = objects[at];
    objects[at] = fault != NULL ? fault : objects[COUNT - 1]; /* no fault given: the object that is free already */
    size_t bad = 12345;
    check_status(slabmalloc_zone_deallocate_many(zone, objects, COUNT - 1, SIZE, 8, &bad), expected, __FILE__, __LINE__,
                 "deallocate_many");
    CHECK_EQUAL(bad, at);
    slabmalloc_class_stats after = slabmalloc_zone_stats(zone, -1);
    CHECK_EQUAL(memcmp(&before, &after, sizeof before), 0);
    CHECK_CONSERVED(zone);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), expected_next);
    objects[at] = original;
    CHECK_OK(slabmalloc_zone_deallocate_many(zone, objects, COUNT, SIZE, 8, &bad));
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, 1);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    test_pager_end(pager);
}

static void a_fault_changes_nothing(void)
{
    static void *objects[COUNT];
    static const size_t places[] = {0, 1, 500, COUNT - 2};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        check_fault(objects, places[i], NULL, SLABMALLOC_FREE_DOUBLE);
        check_fault(objects, places[i], &objects, SLABMALLOC_FREE_FOREIGN);
        check_fault(objects, places[i], (void *)UINTPTR_MAX, SLABMALLOC_FREE_FOREIGN);
    }
}

static void a_fault_within_the_zone_changes_nothing(void)
{
    test_pager *pager = test_pager_new();
    static void *objects[COUNT];
    slabmalloc_zone *zone = zone_with_objects(pager, objects);
    void *other = slabmalloc_zone_allocate(zone, 200, 8), *kept = objects[700];
    slabmalloc_class_stats before = slabmalloc_zone_stats(zone, -1);
    struct {
        void *fault;
        slabmalloc_status status;
    } faults[] = {{other, SLABMALLOC_FREE_WRONG_CLASS},
                  {(char *)kept + 8, SLABMALLOC_FREE_INTERIOR},
                  {(char *)((uintptr_t)kept & ~(uintptr_t)4095) + 4090, SLABMALLOC_FREE_INTERIOR},
                  {objects[3], SLABMALLOC_FREE_DOUBLE},    /* stands twice, far apart */
                  {objects[699], SLABMALLOC_FREE_DOUBLE}}; /* and side by side */
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        objects[700] = faults[i].fault;
        size_t bad = 12345;
        check_status(slabmalloc_zone_deallocate_many(zone, objects, COUNT, SIZE, 8, &bad), faults[i].status, __FILE__,
                     __LINE__, "fault");
        CHECK_EQUAL(bad, 700);
        slabmalloc_class_stats after = slabmalloc_zone_stats(zone, -1);
        CHECK_EQUAL(memcmp(&before, &after, sizeof before), 0);
        CHECK_CONSERVED(zone);
        objects[700] = kept;
    }
    /* The first of several faults is named. */
    objects[600] = objects[5];
    objects[700] = other;
    size_t bad = 0;
    CHECK_STATUS(slabmalloc_zone_deallocate_many(zone, objects, COUNT, SIZE, 8, &bad), FREE_DOUBLE);
    CHECK_EQUAL(bad, 600);
    objects[400] = other;
    CHECK_STATUS(slabmalloc_zone_deallocate_many(zone, objects, COUNT, SIZE, 8, &bad), FREE_WRONG_CLASS);
    CHECK_EQUAL(bad, 400);
    slabmalloc_class_stats after = slabmalloc_zone_stats(zone, -1);
    CHECK_EQUAL(memcmp(&before, &after, sizeof before), 0);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    test_pager_end(pager);
}

/* All or nothing must also leave which slab comes next as it was. */
static void a_fault_keeps_the_order_of_slabs(void)
{
    enum { PAGES = 8 };
    for (int with_fault = 0; with_fault < 2; with_fault++) {
        static ptrdiff_t first[PAGES * 64];
        slabmalloc_zone *zone = zone_default();
        char *pages = memory_new(4096 * PAGES, 4096);
        size_t capacity = page_layout_of(256, 4096).capacity, live = PAGES * capacity;
        static void *objects[PAGES * 64];
        for (size_t i = 0; i < PAGES; i++)
            CHECK_OK(slabmalloc_zone_refill(zone, 256, 8, pages + 4096 * i, 4096));
        CHECK_EQUAL(slabmalloc_zone_allocate_many(zone, 256, 8, objects, live), live);
        for (size_t i = 0; i < live; i += 3)
            CHECK_OK(slabmalloc_zone_deallocate(zone, objects[i], 256, 8));
        if (with_fault) {
            void *batch[PAGES * 64];
            size_t count = 0;
            for (size_t i = 0; i < live; i++)
                if (i % 3 != 0)
                    batch[count++] = objects[i];
            batch[count++] = batch[7];
            size_t bad;
            CHECK_STATUS(slabmalloc_zone_deallocate_many(zone, batch, count, 256, 8, &bad), FREE_DOUBLE);
            CHECK_EQUAL(bad, count - 1);
        }
        for (size_t i = 0; i < live; i += 3) {
            ptrdiff_t offset = (char *)slabmalloc_zone_allocate(zone, 256, 8) - pages;
            if (with_fault)
                CHECK_EQUAL(offset, first[i]);
            first[i] = offset;
        }
        CHECK_CONSERVED(zone);
        slabmalloc_zone_destroy(zone);
        memory_free(pages, 4096 * PAGES);
    }
}

static void nothing_is_handed_out_twice(void)
{
    test_pager *pager = test_pager_new();
    static void *objects[COUNT];
    slabmalloc_zone *zone = zone_with_objects(pager, objects);
    static void *sorted[COUNT];
    memcpy(sorted, objects, sizeof sorted);
    qsort(sorted, COUNT, sizeof *sorted, by_address);
    for (size_t i = 1; i < COUNT; i++)
        CHECK((char *)sorted[i] - (char *)sorted[i - 1] >= SIZE);
    CHECK_OK(slabmalloc_zone_deallocate_many(zone, sorted, COUNT, SIZE, 8, NULL));
    slabmalloc_zone_destroy(zone);
    test_pager_end(pager);
}

int main(void)
{
    RUN(many_is_as_many_single_ones);
    RUN(an_invalid_layout_gets_none);
    RUN(the_pager_running_out_leaves_a_part);
    RUN(a_fault_changes_nothing);
    RUN(a_fault_within_the_zone_changes_nothing);
    RUN(a_fault_keeps_the_order_of_slabs);
    RUN(nothing_is_handed_out_twice);
    return check_finish();
}
