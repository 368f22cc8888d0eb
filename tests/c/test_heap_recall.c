/* SPDX-License-Identifier: MIT
 *
 * Pages of classes that have nothing in them now serve the next class that needs one: how little the blocks of a moment
 * touch, and how seldom a class loses its page.
 */
#include "hardened_fixture.h"
#include "limits.h"

#include "slab/pager.h"

/* An object of each class up to `most` bytes, for a moment each. */
static void one_of_each(heap *h, size_t least, size_t most)
{
    const slabmalloc_size_classes *classes = slabmalloc_zone_classes(h->view.zone);
    for (uint32_t i = 0; i < classes->count && classes->sizes[i] <= most; i++)
        if (classes->sizes[i] >= least) {
            char *object = heap_allocate(h, classes->sizes[i]);
            REQUIRE(object != NULL);
            stamp(object, classes->sizes[i], i);
            CHECK_OK(heap_free(h, object));
        }
}

static uint64_t pages_taken(heap *h, size_t bytes)
{
    return zone_sc_slow(h->view.zone, bytes, HEAP_ALIGN_BYTES)->pages_taken;
}

static void blocks_of_a_moment_share_their_memory(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 1000000);
    heap *h = heap_of(s);
    one_of_each(h, HEAP_SMALL_BYTES + 1, HEAP_MEDIUM_BYTES);
    CHECK_EQUAL(space_statistics(s).peak_mapped_bytes, HEAP_MEDIUM_PAGE_BYTES);
    CHECK(is_emulated() ||
          os_resident_bytes((void *)h->view.base, s->ranges[0].arena.reserved_bytes) <= HEAP_MEDIUM_BYTES);
    one_of_each(h, 1, HEAP_SMALL_BYTES);
    CHECK_EQUAL(space_statistics(s).peak_mapped_bytes, HEAP_MEDIUM_PAGE_BYTES + HEAP_PAGE_BYTES);
    CHECK_HEAP(h, 0);
    space_destroy(s);
}

/* What is live, be it that another thread has freed it and nobody has collected it yet, keeps its page. */
static void no_page_with_an_object_is_recalled(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 1000000);
    heap *h = heap_of(s);
    static const size_t sizes[] = {100, 10000, 3000, 50000};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    char *objects[COUNT];
    const slab *slabs[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        REQUIRE((objects[i] = heap_allocate(h, sizes[i])) != NULL);
        stamp(objects[i], sizes[i], i);
        slabs[i] = space_slab_at(s, (uintptr_t)objects[i]);
    }
    CHECK_OK(heap_free_remote(s, objects[0]));
    for (size_t round = 0; round < 3; round++)
        one_of_each(h, 200, HEAP_MEDIUM_BYTES);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_POINTER(space_slab_at(s, (uintptr_t)objects[i]), slabs[i]);
        CHECK(is_stamped(objects[i], sizes[i], i));
        CHECK(i == 0 || heap_free(h, objects[i]) == SLABMALLOC_OK);
    }
    CHECK_HEAP(h, 0);
    space_destroy(s);
}

/* But for a while now and then. */
static void classes_that_take_turns_keep_their_pages(void)
{
    enum { ONE = 20000, OTHER = 30000, ROUNDS = 2000 };
    space *s = space_new(RESERVE_LEAST, 1, 20);
    heap *h = heap_of(s);
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_OK(heap_free(h, heap_allocate(h, ONE)));
        CHECK_OK(heap_free(h, heap_allocate(h, OTHER)));
    }
    CHECK_EQUAL(pages_taken(h, ONE) + pages_taken(h, OTHER), HEAP_LOOKS + 1);
    CHECK_EQUAL(h->looks_left[1], 0);
    for (uint64_t end = clock_ms() + 5000; h->looks_left[1] == 0 && clock_ms() < end; sleep_ms(1))
        heap_tick(h);
    CHECK_EQUAL(h->looks_left[1], HEAP_LOOKS);
    one_of_each(h, HEAP_SMALL_BYTES + 1, HEAP_MEDIUM_BYTES);
    CHECK(h->looks_left[1] < HEAP_LOOKS);
    CHECK_HEAP(h, 0);
    space_destroy(s);
}

/* Where the system has none, a class has to give its page, however often it has. */
static void pages_are_recalled_when_there_are_no_others(void)
{
    static const size_t sizes[] = {20000, 30000, 40000};
    space *s = space_new(RESERVE_LEAST, 1, 1000000);
    heap *h = heap_of(s);
    for (size_t left = s->ranges[0].arena.reserved_bytes / ARENA_CHUNK_BYTES; left > 1; left--)
        REQUIRE(space_take_page(s, HEAP_MEDIUM_PAGE_BYTES) != NULL);
    h->looks_left[1] = 0;
    for (int round = 0; round < 100; round++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            CHECK_OK(heap_free(h, heap_allocate(h, sizes[i])));
    CHECK(heap_audit(h) == NULL);
    space_destroy(s);
}

/* In a hardened heap what was freed does not come to another class so soon. */
static void a_hardened_heap_recalls_nothing(void)
{
    space *s = hardened_space_new(RESERVE_LEAST);
    heap *h = heap_of(s);
    for (size_t bytes = 10000; bytes < 40000; bytes += 10000) {
        CHECK_OK(heap_free(h, heap_allocate(h, bytes)));
        hardened_trim(h);
    }
    CHECK_EQUAL(space_statistics(s).peak_mapped_bytes, 3 * HEAP_MEDIUM_PAGE_BYTES);
    space_destroy(s);
}

int main(void)
{
    RUN(blocks_of_a_moment_share_their_memory);
    RUN(no_page_with_an_object_is_recalled);
    RUN(classes_that_take_turns_keep_their_pages);
    RUN(pages_are_recalled_when_there_are_no_others);
    RUN(a_hardened_heap_recalls_nothing);
    return check_finish();
}
