/* SPDX-License-Identifier: MIT
 *
 * Pages of classes that have nothing in them now serve the next class that needs one, as long as the heap is small: how
 * little the blocks of a moment touch, and how seldom a class loses its page.
 */
#include "limits.h"
#include "space_fixture.h"

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
    CHECK(is_emulated() || os_resident_bytes((void *)h->view.base, RESERVE_LEAST) <= HEAP_MEDIUM_BYTES);
    one_of_each(h, 1, HEAP_SMALL_BYTES);
    CHECK_EQUAL(space_statistics(s).peak_mapped_bytes, HEAP_MEDIUM_PAGE_BYTES + HEAP_PAGE_BYTES);
    CHECK_HEAP(h, 0);
    space_destroy(s);
}

/* What is live, be it that another thread has freed it and nobody has collected it yet, stays where it is. */
static void no_page_with_an_object_is_recalled(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 1000000);
    heap *h = heap_of(s);
    static const size_t sizes[] = {100, 10000, 3000, 50000};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    char *objects[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        REQUIRE((objects[i] = heap_allocate(h, sizes[i])) != NULL);
        stamp(objects[i], sizes[i], i);
    }
    CHECK_OK(heap_free_remote(s, objects[0]));
    for (size_t round = 0; round < 3; round++)
        one_of_each(h, 1, HEAP_MEDIUM_BYTES);
    for (size_t i = 1; i < COUNT; i++) {
        CHECK(is_stamped(objects[i], sizes[i], i));
        CHECK_OK(heap_free(h, objects[i]));
    }
    CHECK_HEAP(h, 0);
    space_destroy(s);
}

/* Until the next round of the sweep. */
static void classes_that_take_turns_keep_their_pages(void)
{
    enum { ONE = 20000, OTHER = 30000, ROUNDS = 2000 };
    space *s = space_new(RESERVE_LEAST, 1, 20);
    heap *h = heap_of(s);
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_OK(heap_free(h, heap_allocate(h, ONE)));
        CHECK_OK(heap_free(h, heap_allocate(h, OTHER)));
    }
    uint64_t taken = pages_taken(h, ONE) + pages_taken(h, OTHER);
    CHECK_EQUAL(taken, HEAP_RECALLS + 2);
    CHECK_EQUAL(h->recalls_left, 0);
    for (uint64_t end = clock_ms() + 5000; h->recalls_left == 0 && clock_ms() < end; sleep_ms(1))
        heap_tick(h);
    CHECK_EQUAL(h->recalls_left, HEAP_RECALLS);
    one_of_each(h, HEAP_SMALL_BYTES + 1, HEAP_MEDIUM_BYTES);
    CHECK(h->recalls_left < HEAP_RECALLS);
    CHECK_HEAP(h, 0);
    space_destroy(s);
}

/* Not in a hardened heap, whose pages have guards; in a large one medium pages alone, of which there are few. */
static void not_in_every_heap(void)
{
    space_options options = space_options_default();
    options.reserve_bytes = RESERVE_LEAST;
    options.decay_ms = 1000000;
    options.is_hardened = true;
    space *s = space_create(&options);
    REQUIRE(s != NULL);
    one_of_each(heap_of(s), HEAP_SMALL_BYTES + 1, 50000);
    CHECK(space_statistics(s).peak_mapped_bytes > 2 * HEAP_MEDIUM_PAGE_BYTES);
    space_destroy(s);

    s = space_new(RESERVE_LEAST, 1, 1000000);
    heap *h = heap_of(s);
    for (size_t i = 0; i < 40 * (size_t)MIB / 4096; i++)
        REQUIRE(heap_allocate(h, 4096) != NULL);
    static const size_t sizes[] = {2000, 3000, 20000, 30000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        CHECK_OK(heap_free(h, heap_allocate(h, sizes[i])));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        CHECK_EQUAL(zone_sc_slow(h->view.zone, sizes[i], HEAP_ALIGN_BYTES)->pages, i != 2);
    space_destroy(s);
}

int main(void)
{
    RUN(blocks_of_a_moment_share_their_memory);
    RUN(no_page_with_an_object_is_recalled);
    RUN(classes_that_take_turns_keep_their_pages);
    RUN(not_in_every_heap);
    return check_finish();
}
