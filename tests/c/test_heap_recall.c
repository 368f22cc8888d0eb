/* SPDX-License-Identifier: MIT
 *
 * Pages of classes that have nothing in them now serve the next class that needs one: how little the blocks of a moment
 * touch, and how seldom a class loses its page; in a forked child, and where the system refuses the record of such a
 * page.
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

/* ---- in a forked child ------------------------------------------------------------------------------------- */

enum { FEW = 4 };
static const size_t left_sizes[FEW] = {100, 3000, 20000, 50000}, later_sizes[FEW] = {400, 5000, 30000, 80000};

/* A heap, and what was freed in it: each lay alone in its class, whose slab is there still. */
typedef struct leavings {
    heap *h;
    char *objects[FEW];
    const slab *slabs[FEW];
} leavings;

static leavings leave_empty_slabs(space *s, uint64_t tag)
{
    leavings l = {.h = heap_of(s)};
    for (size_t i = 0; i < FEW; i++) {
        REQUIRE((l.objects[i] = heap_allocate(l.h, left_sizes[i])) != NULL);
        stamp(l.objects[i], left_sizes[i], tag);
        l.slabs[i] = space_slab_at(s, (uintptr_t)l.objects[i]);
    }
    for (size_t i = 0; i < FEW; i++)
        CHECK_OK(heap_free(l.h, l.objects[i]));
    return l;
}

/* Each slab is there still, and what its memory holds. */
static void check_nothing_recalled(space *s, const leavings *l, uint64_t tag)
{
    for (size_t i = 0; i < FEW; i++) {
        CHECK_POINTER(space_slab_at(s, (uintptr_t)l->objects[i]), l->slabs[i]);
        CHECK_EQUAL(l->slabs[i]->sc->pages, 1);
        CHECK_EQUAL(l->slabs[i]->sc->pages_returned, 0);
        CHECK(is_stamped(l->objects[i], left_sizes[i], tag));
    }
}

/* As many other classes want a page each: they get what was left, and no page more is taken. */
static void check_recalled_by_others(const leavings *l)
{
    space *s = l->h->space;
    size_t mapped_bytes = space_statistics(s).mapped_bytes;
    char *later[FEW];
    for (size_t i = 0; i < FEW; i++) {
        REQUIRE((later[i] = heap_allocate(l->h, later_sizes[i])) != NULL);
        stamp(later[i], later_sizes[i], i);
    }
    CHECK_EQUAL(space_statistics(s).mapped_bytes, mapped_bytes);
    CHECK_HEAP(l->h, FEW);
    for (size_t i = 0; i < FEW; i++) {
        CHECK_EQUAL(pages_taken(l->h, left_sizes[i]), 1);
        CHECK_EQUAL(zone_sc_slow(l->h->view.zone, left_sizes[i], HEAP_ALIGN_BYTES)->pages, 0);
        CHECK(is_stamped(later[i], later_sizes[i], i));
        CHECK_OK(heap_free(l->h, later[i]));
    }
    CHECK_HEAP(l->h, 0);
}

/* Of heaps that are its own, or that it adopts; what a lost heap has stays there. And the parent notices nothing. */
static void a_child_recalls_what_its_parent_left(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 1000000);
    leavings mine = leave_empty_slabs(s, 1), abandoned = leave_empty_slabs(s, 2), lost = leave_empty_slabs(s, 3);
    heap_abandon(abandoned.h);
    space_stats before = space_statistics(s);
    fflush(NULL);
    space_fork_prepare(s);
    pid_t child = fork();
    if (child == 0) {
        space_fork_child(s, &mine.h, 1);
        atomic_store(&check_failures, 0);
        check_recalled_by_others(&mine);
        CHECK_POINTER(heap_open(s, NULL), abandoned.h);
        check_recalled_by_others(&abandoned);
        check_nothing_recalled(s, &lost, 3);
        CHECK_EQUAL(space_statistics(s).peak_mapped_bytes, before.peak_mapped_bytes);
        fflush(NULL);
        _exit(atomic_load(&check_failures) != 0);
    }
    space_fork_parent(s);
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    check_nothing_recalled(s, &mine, 1);
    check_nothing_recalled(s, &abandoned, 2);
    check_nothing_recalled(s, &lost, 3);
    space_stats after = space_statistics(s);
    CHECK_EQUAL(after.mapped_bytes, before.mapped_bytes);
    CHECK_EQUAL(after.free_bytes, before.free_bytes);
    CHECK_EQUAL(after.resting_bytes, before.resting_bytes);
    CHECK_HEAP(mine.h, 0);
    check_recalled_by_others(&mine);
    space_destroy(s);
}

/* ---- bookkeeping that the system refuses --------------------------------------------------------------------- */

/* The class is left with an empty slab; returns the object that was there. */
static char *leave_page(heap *h, size_t bytes)
{
    char *object = heap_allocate(h, bytes);
    CHECK_OK(heap_free(h, object));
    return object;
}

/* Private memory of the process is limited to so much. Returns the limit before, to be set again. */
static struct rlimit limit_data(size_t bytes)
{
    struct rlimit before;
    REQUIRE(getrlimit(RLIMIT_DATA, &before) == 0);
    struct rlimit limit = {bytes, before.rlim_max};
    REQUIRE(setrlimit(RLIMIT_DATA, &limit) == 0);
    return before;
}

/* The books of the heap have no room, and the system grants none; false: it does. */
static bool use_up_books(heap *h)
{
    store *books = &h->view.zone->store;
    size_t most = store_bytes(books) + 16 * (size_t)MIB;
    while (store_bytes(books) < most && store_take(books, CACHE_LINE_BYTES) != NULL)
        ;
    return store_bytes(books) < most;
}

/* The class that gets the page needs a record for it, and there is no memory. Its own has the one that gave it. */
static void a_page_that_gets_no_record_rests(void)
{
    for (size_t i = 0; i < FEW && !UNDER_TSAN; i++) { /* whose runtime wants memory of its own */
        space *s = space_new(RESERVE_LEAST, 1, 1000000);
        heap *h = heap_of(s);
        char *object = leave_page(h, left_sizes[i]);
        size_t page_bytes = space_statistics(s).mapped_bytes;
        struct rlimit before = limit_data(os_page_bytes()); /* of 0 Linux thinks that it is meant for others */
        bool is_refused = use_up_books(h);
        for (int round = 0; is_refused && round < 3; round++) {
            CHECK_POINTER(heap_allocate(h, later_sizes[i]), NULL);
            CHECK_STATUS(heap_free(h, object), FREE_FOREIGN);
            CHECK_EQUAL(pages_taken(h, left_sizes[i]), round + 1);
            CHECK_EQUAL(pages_taken(h, later_sizes[i]), 0);
            CHECK_EQUAL(space_statistics(s).resting_bytes, page_bytes);
            CHECK_HEAP(h, 0);
            CHECK_POINTER(heap_allocate(h, left_sizes[i]), object);
            CHECK_HEAP(h, 1);
            CHECK_OK(heap_free(h, object));
        }
        REQUIRE(setrlimit(RLIMIT_DATA, &before) == 0);
        CHECK_POINTER(heap_allocate(h, later_sizes[i]), object);
        CHECK_EQUAL(space_statistics(s).peak_mapped_bytes, page_bytes);
        CHECK_HEAP(h, 1);
        space_destroy(s);
    }
}

/* But there is some where large objects rest: they go, and the page has its record. */
static void what_rests_makes_room_for_the_record(void)
{
    for (size_t i = 0; i < FEW && !UNDER_TSAN; i++) { /* whose runtime wants memory of its own */
        space *s = space_new(RESERVE_LEAST, 1, 1000000);
        heap *h = heap_of(s);
        char *object = leave_page(h, left_sizes[i]);
        CHECK_OK(heap_free(h, heap_allocate(h, 16 * (size_t)MIB)));
        CHECK(space_statistics(s).large_resting_bytes >= 16 * (size_t)MIB);
        struct rlimit before = limit_data(has_bytes(true));
        if (use_up_books(h)) {
            CHECK_POINTER(heap_allocate(h, later_sizes[i]), object);
            CHECK_EQUAL(space_statistics(s).large_resting_bytes, 0);
            CHECK_HEAP(h, 1);
        }
        REQUIRE(setrlimit(RLIMIT_DATA, &before) == 0);
        space_destroy(s);
    }
}

int main(void)
{
    RUN(blocks_of_a_moment_share_their_memory);
    RUN(no_page_with_an_object_is_recalled);
    RUN(classes_that_take_turns_keep_their_pages);
    RUN(pages_are_recalled_when_there_are_no_others);
    RUN(a_hardened_heap_recalls_nothing);
    RUN(a_child_recalls_what_its_parent_left);
    RUN(a_page_that_gets_no_record_rests);
    RUN(what_rests_makes_room_for_the_record);
    return check_finish();
}
