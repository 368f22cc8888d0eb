/* SPDX-License-Identifier: MIT
 *
 * Hardened heaps: what nobody can touch, how far guards go, large blocks and objects of no bytes, memory that the
 * system refuses, and the fork of a process.
 */
#include "hardened_fixture.h"
#include "limits.h"

static size_t os_page(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/* With OS pages of 16 KiB and more slabs have no guards. */
static bool has_slab_guards(void) { return os_page() <= HEAP_PAGE_BYTES / 8; }

/* The first byte behind [begin, begin + bytes) and the last before it are guarded, what lies within is not. */
static void check_guarded(const void *begin, size_t bytes)
{
    char *first = (char *)(uintptr_t)begin, *end = first + (bytes + os_page() - 1) / os_page() * os_page();
    CHECK(touch_kills(first - 1, false));
    CHECK(touch_kills(end, false));
    CHECK(!touch_kills(first, true));
    CHECK(!touch_kills(end - 1, true));
}

static void around_slabs(void)
{
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    static const size_t sizes[] = {1, 100, 3000, 16000, 50000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && has_slab_guards(); i++) {
        const slab *found = space_slab_at(s, (uintptr_t)heap_allocate(h, sizes[i]));
        const slab_geometry *g = &found->sc->geometry;
        char *end = (char *)slab_page(found) + g->page_bytes;
        CHECK(touch_kills(end - 1, false));
        CHECK(touch_kills(end - os_page(), true));
        CHECK(!touch_kills(end - os_page() - 1, true));
        CHECK((size_t)g->capacity * g->object_bytes <= g->page_bytes - os_page());
    }
    const arena *a = &s->ranges[0].arena;
    CHECK(touch_kills((char *)a->base - 1, false)); /* before the first page */
    CHECK(touch_kills((char *)a->base - ARENA_CHUNK_BYTES, false));
    CHECK(touch_kills((char *)a->base + arena_fresh(a) * ARENA_CHUNK_BYTES, false)); /* not handed out yet */
    space_destroy(s);
}

/* A page that goes back has no guard any more, whoever gets it. */
static void guards_go_with_their_slabs(void)
{
    enum { COUNT = 4000 };
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    static const size_t sizes[] = {1000, 60000, 200, 100000, 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t count = sizes[i] > 10000 ? COUNT / 20 : COUNT;
        char **blocks = objects_new(h, count, sizes[i]);
        CHECK_HEAP(h, count);
        for (size_t k = 0; k < count; k++)
            CHECK_OK(heap_free(h, blocks[k]));
        free(blocks);
        heap_trim(h);
        CHECK_HEAP(h, 0);
    }
    CHECK_EQUAL(damages_of(s), 0);
    space_destroy(s);
}

/* Their guards are calls of the system: slabs that run empty stay for their class, and go when they were not needed. */
static void empty_slabs_stay_for_a_while(void)
{
    enum { BYTES = 500, COUNT = 2000, ROUNDS = 20 };
    space *s = hardened_space_new(RESERVE_LEAST);
    s->options.decay_ms = 100;
    heap *h = heap_of(s);
    static void *blocks[COUNT];
    hold_sweep(h);
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < COUNT; i++)
            REQUIRE((blocks[i] = heap_allocate(h, BYTES)) != NULL);
        for (size_t i = 0; i < COUNT; i++)
            CHECK_OK(heap_free(h, blocks[i]));
    }
    uint64_t most_pages = COUNT * (BYTES + 200) / HEAP_PAGE_BYTES + 10, taken = 0;
    for (uint32_t i = 0; i < zone_sc_count(h->view.zone); i++)
        taken += h->view.zone->sc[i].pages_taken;
    CHECK(taken <= most_pages);
    size_t before = atomic_load(&s->in_use_bytes);
    CHECK(before > COUNT * BYTES / 2);
    h->next_round_ms = 0;
    for (uint64_t end = clock_ms() + 10000; atomic_load(&s->in_use_bytes) > before / 2 && clock_ms() < end; sleep_ms(5))
        heap_tick(h);
    CHECK(atomic_load(&s->in_use_bytes) <= before / 2);
    CHECK_POINTER(heap_audit(h), NULL);
    space_destroy(s);
}

static void around_bookkeeping(void)
{
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    range *r = &s->ranges[0];
    check_guarded((void *)r->slabs, r->tables_bytes);
    check_guarded(r->arena.tables, r->arena.tables_bytes);
    check_guarded(s, sizeof *s);
    /* All in the first chunk of the store, its zone and the first slabs too. */
    check_guarded((void *)((uintptr_t)h & ~(os_page() - 1)), slabmalloc_zone_bookkeeping_bytes(h->view.zone));
    CHECK((uintptr_t)h->view.zone - (uintptr_t)h < slabmalloc_zone_bookkeeping_bytes(h->view.zone));
    CHECK((uintptr_t)h->hardened - (uintptr_t)h < slabmalloc_zone_bookkeeping_bytes(h->view.zone));
    CHECK(touch_kills((char *)((uintptr_t)s->large.buckets & ~(os_page() - 1)) - 1, false));
    space_destroy(s);
}

/* ---- large blocks ----------------------------------------------------------------------------------------------- */

static void around_large_blocks(void)
{
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    static const size_t sizes[] = {HEAP_MEDIUM_BYTES, 200000, MIB - HARDENED_SEAL_BYTES, MIB, 10 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *block = heap_allocate(h, sizes[i]);
        REQUIRE(block != NULL);
        check_guarded(block, sizes[i] + HARDENED_SEAL_BYTES);
        CHECK_OK(heap_free(h, block));
        CHECK(touch_kills(block, false) && touch_kills(block + sizes[i] - 1, true));
    }
    CHECK_HEAP(h, 0);
    CHECK_EQUAL(space_statistics(s).large_bytes, 0);
    space_destroy(s);
}

/* Addresses of a large block are nobody's until so many others have been freed; then they can be had again. */
static void addresses_of_large_blocks_rest(void)
{
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    char *first = heap_allocate(h, MIB);
    CHECK_OK(heap_free(h, first));
    for (int i = 1; i < LARGE_FENCES; i++) {
        char *block = heap_allocate(h, MIB);
        CHECK(block + MIB <= first || first + MIB <= block);
        CHECK_OK(heap_free(h, block));
        CHECK_STATUS(heap_free(h, first), FREE_FOREIGN);
    }
    size_t before = s->large.fences[s->large.next_fence].address;
    CHECK_POINTER((void *)before, first);
    heap_trim(h);
    for (int i = 0; i < LARGE_FENCES; i++)
        CHECK_EQUAL(s->large.fences[i].address, 0);
    space_destroy(s);
}

/* Guards are a part of the mappings that a process can have; blocks beyond are as good, but without. */
static void guards_leave_mappings_to_others(void)
{
    enum { PAGES = 20, BLOCKS = 40, GUARDED = 10 };
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    CHECK(s->guarded_bytes / ARENA_UNIT_BYTES * 2 + s->large.most_guarded * 2 < os_most_mappings());
    s->guarded_bytes = PAGES / 2 * ARENA_UNIT_BYTES;
    s->large.most_guarded = GUARDED;
    for (size_t i = 0; i < PAGES * HEAP_PAGE_BYTES / 1000; i++)
        REQUIRE(heap_allocate(h, 1000) != NULL);
    char *base = (char *)h->view.base;
    for (size_t page = 0; page < PAGES && has_slab_guards(); page++)
        CHECK_EQUAL(touch_kills(base + (page + 1) * HEAP_PAGE_BYTES - 1, false), page < PAGES / 2);
    for (int round = 0; round < 3; round++) {
        char *blocks[BLOCKS];
        for (size_t i = 0; i < BLOCKS; i++) {
            REQUIRE((blocks[i] = heap_allocate(h, 200000)) != NULL);
            CHECK(all_zero(blocks[i], 200000));
            memset(blocks[i], 1, 200000);
            if (i < GUARDED)
                CHECK(touch_kills(blocks[i] - 1, false));
        }
        CHECK_EQUAL(s->large.guarded_count, GUARDED);
        for (size_t i = 0; i < BLOCKS; i++)
            CHECK_OK(heap_free(h, blocks[i]));
        CHECK_EQUAL(s->large.guarded_count, 0);
        CHECK(large_is_valid(&s->large));
    }
    space_destroy(s);
}

static void objects_of_no_bytes(void)
{
    enum { COUNT = 300 };
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    slabmalloc_status status;
    char *objects[COUNT];
    for (int i = 0; i < COUNT; i++)
        REQUIRE((objects[i] = heap_allocate_nothing(s)) != NULL);
    CHECK(touch_kills(objects[7], false) && touch_kills(objects[8] - 1, false));
    CHECK_EQUAL(heap_usable_bytes(s, objects[0]), 0);
    CHECK_HEAP(h, COUNT);
    char *grown = heap_reallocate(h, objects[0], 100, &status);
    CHECK_OK(status);
    CHECK(grown != NULL && all_zero(grown, 100));
    CHECK_STATUS(heap_free(h, objects[0]), FREE_DOUBLE);
    CHECK_POINTER(heap_reallocate(h, objects[0], 100, &status), NULL);
    CHECK_STATUS(status, FREE_DOUBLE);
    CHECK_OK(heap_free(h, grown));
    for (int i = 1; i < COUNT; i++)
        CHECK_OK(i % 2 == 0 ? heap_free(h, objects[i]) : heap_free_remote(s, objects[i]));
    CHECK_STATUS(heap_free(h, objects[1]), FREE_DOUBLE);
    CHECK_HEAP(h, 0);
    space_destroy(s);
}

/* ---- memory is short -------------------------------------------------------------------------------------------- */

static int use_up_what_there_is(void)
{
    enum { MOST = 200000 };
    static char *blocks[MOST];
    static const size_t sizes[] = {40, 3000, 300000, 100, 60000};
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    for (size_t round = 0; round < 5; round++) {
        size_t count = 0, bytes = sizes[round], refused = 0;
        while (count < MOST && refused < 3) {
            char *block = heap_allocate(h, bytes);
            refused += block == NULL;
            if (block != NULL) {
                CHECK(all_zero(block, bytes));
                stamp(block, bytes, count);
                blocks[count++] = block;
            }
        }
        CHECK(refused == 3);
        CHECK(count * bytes > space_left / 16);
        CHECK_HEAP(h, count);
        slabmalloc_status status = SLABMALLOC_OK;
        CHECK_POINTER(heap_reallocate(h, blocks[0], space_left, &status), NULL);
        CHECK_OK(status);
        for (size_t i = 0; i < count; i++) {
            CHECK(is_stamped(blocks[i], bytes, i));
            CHECK_OK(heap_free(h, blocks[i]));
        }
        CHECK_HEAP(h, 0);
        heap_trim(h);
    }
    CHECK_EQUAL(damages_of(s), 0);
    space_destroy(s);
    return 0;
}

static void what_the_system_refuses(void)
{
    if (limits_are_kept())
        CHECK_EQUAL(in_limited_child(64 * MIB, use_up_what_there_is), 0);
}

/* ---- a process forks -------------------------------------------------------------------------------------------- */

static int in_child(space *s, heap *h, heap *others, char **blocks, size_t count)
{
    space_fork_child(s, (heap *[]){h}, 1);
    for (size_t i = 0; i < count; i++) {
        CHECK(is_stamped(blocks[i], 500, i));
        CHECK_OK(heap_free(h, blocks[i]));
        CHECK_STATUS(heap_free(h, blocks[i]), FREE_DOUBLE);
    }
    CHECK(others->state == HEAP_LOST);
    churn(h, 500);
    CHECK_HEAP(h, 0);
    CHECK_EQUAL(damages_of(s), 0);
    return atomic_load(&check_failures) != 0;
}

static void in_a_forked_child(void)
{
    enum { COUNT = 100 };
    space *s = hardened_space_new(0);
    heap *h = heap_of(s), *others = heap_of(s);
    char *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        REQUIRE((blocks[i] = heap_allocate(i % 2 == 0 ? h : others, 500)) != NULL);
        stamp(blocks[i], 500, i);
        CHECK_OK(heap_free(others, heap_allocate(h, 500)));
    }
    fflush(NULL);
    space_fork_prepare(s);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0)
        _exit(in_child(s, h, others, blocks, COUNT));
    space_fork_parent(s);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    for (size_t i = 0; i < COUNT; i++)
        CHECK_OK(heap_free(others, blocks[i]));
    CHECK_HEAP(h, 0);
    space_destroy(s);
}

static space *refused_space;
static heap *refused_heap;
static char **refused_blocks;

enum { REFUSED_COUNT = 4000 };

/* No page becomes writable again: guards stay where no slab is any more, and are no trap for whoever comes later. */
static int free_with_guards_that_stay(void)
{
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_DATA, &limit) == 0);
    struct rlimit none = {os_page(), limit.rlim_max}; /* of 0 Linux thinks that it is meant for others */
    REQUIRE(setrlimit(RLIMIT_DATA, &none) == 0);
    for (size_t i = 0; i < REFUSED_COUNT; i++)
        CHECK_OK(heap_free(refused_heap, refused_blocks[i]));
    heap_trim(refused_heap);
    CHECK(atomic_load(&refused_space->has_traps));
    CHECK_HEAP(refused_heap, 0);
    space_stats stats = space_statistics(refused_space);
    CHECK_EQUAL(stats.live_bytes + stats.free_bytes + stats.tail_bytes + stats.resting_bytes, stats.mapped_bytes);
    for (size_t bytes = 500; bytes <= 100000; bytes *= 200) { /* nothing is served on a page with a trap in it */
        char *block = heap_allocate(refused_heap, bytes);
        CHECK(block == NULL || memset(block, 1, bytes) != NULL);
    }
    REQUIRE(setrlimit(RLIMIT_DATA, &limit) == 0);
    for (size_t i = 0; i < REFUSED_COUNT; i++) {
        size_t bytes = i % 2 == 0 ? 500 : 100000;
        char *block = heap_allocate(refused_heap, bytes);
        REQUIRE(block != NULL);
        memset(block, 1, bytes);
    }
    CHECK(heap_audit(refused_heap) == NULL);
    return 0;
}

static void guards_that_stay_are_no_traps(void)
{
    if (!has_slab_guards() || !limits_are_kept())
        return;
    refused_space = hardened_space_new(0);
    refused_heap = heap_of(refused_space);
    refused_blocks = objects_new(refused_heap, REFUSED_COUNT, 500);
    CHECK_EQUAL(in_limited_child(1 << 30, free_with_guards_that_stay), 0);
    free(refused_blocks);
    space_destroy(refused_space);
}

int main(void)
{
    RUN(around_slabs);
    RUN(guards_go_with_their_slabs);
    RUN(empty_slabs_stay_for_a_while);
    RUN(around_bookkeeping);
    RUN(around_large_blocks);
    RUN(addresses_of_large_blocks_rest);
    RUN(guards_leave_mappings_to_others);
    RUN(objects_of_no_bytes);
    RUN(what_the_system_refuses);
    RUN(in_a_forked_child);
    RUN(guards_that_stay_are_no_traps);
    return check_finish();
}
