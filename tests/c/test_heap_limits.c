/* SPDX-License-Identifier: MIT
 *
 * A heap in little address space (`ulimit -v`), or with little memory that can be written (`ulimit -d`): all kinds of
 * objects get what there is, by addresses that are lent, and a request that is refused all the same costs nobody any.
 */
#include "limits.h"
#include "space_fixture.h"

#include <sys/mman.h>

/* All that the system grants, in blocks of a size; they are freed. Returns the bytes. */
static size_t exhaust(heap *h, size_t bytes)
{
    void *last = NULL;
    size_t all = 0;
    for (void **block; (block = heap_allocate(h, bytes)) != NULL; last = block, all += bytes)
        *block = last;
    CHECK(heap_audit(h) == NULL);
    for (void *block = last, *next; block != NULL; block = next) {
        next = *(void **)block;
        CHECK_OK(heap_free(h, block));
    }
    CHECK(heap_audit(h) == NULL);
    space_stats stats = space_statistics(h->space);
    CHECK_EQUAL(stats.live_bytes + stats.free_bytes + stats.tail_bytes + stats.resting_bytes, stats.mapped_bytes);
    return all;
}

static int in_turn(heap *h)
{
    void *stays = heap_allocate(h, 100);
    static const size_t sizes[] = {1000, 1 << 20, 100, 10 << 20, 50000, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t all = exhaust(h, sizes[i]);
        if (!CHECK(all > space_left / 2))
            printf("%zu bytes in blocks of %zu after %zu\n", all, sizes[i], i == 0 ? 0 : sizes[i - 1]);
    }
    CHECK_OK(heap_free(h, stays));
    CHECK_HEAP(h, 0);
    heap_destroy(h);
    return 0;
}

static int small_and_large_in_turn(void)
{
    heap *h = heap_create(0);
    REQUIRE(h != NULL);
    return in_turn(h);
}

static int in_turn_in_huge_pages(void)
{
    space_options options = space_options_default();
    options.huge_pages = true;
    options.machine = (huge_machine){.bytes = HUGE_BYTES, .setting = HUGE_ADVISED};
    space *s = space_create(&options);
    REQUIRE(s != NULL && s->huge_refusal == NULL);
    return in_turn(heap_of(s));
}

static void what_one_kind_had_another_gets(void)
{
    for (size_t bytes = 64 * (size_t)MIB; bytes <= 256 * (size_t)MIB && limits_are_kept(); bytes *= 2)
        CHECK_EQUAL(in_limited_child(bytes, small_and_large_in_turn), 0);
}

static void what_can_be_written_goes_from_one_kind_to_another(void)
{
    if (limits_are_kept())
        CHECK_EQUAL(in_child_of_little_data(128 * (size_t)MIB, small_and_large_in_turn), 0);
}

static void it_is_so_in_huge_pages(void)
{
    if (!limits_are_kept())
        return;
    CHECK_EQUAL(in_limited_child(256 * (size_t)MIB, in_turn_in_huge_pages), 0);
    CHECK_EQUAL(in_child_of_little_data(128 * (size_t)MIB, in_turn_in_huge_pages), 0);
}

/* A request that no limit has refused costs nobody his addresses. */
static void nothing_is_lent_without_a_limit(void)
{
    space *s = space_new(0, 1, 1000);
    size_t reserved = space_statistics(s).reserved_bytes;
    bool is_zero;
    CHECK_POINTER(space_allocate_large(s, (size_t)1 << 60, 16, &is_zero), NULL);
    CHECK_EQUAL(space_statistics(s).reserved_bytes, reserved);
    space_destroy(s);
}

/* Addresses that nobody can write to do not count for RLIMIT_DATA: to lend them would help nobody. */
static int unused_addresses_stay(void)
{
    heap *h = heap_create(0);
    REQUIRE(h != NULL);
    size_t reserved = space_statistics(h->space).reserved_bytes, all = 0;
    for (; heap_allocate(h, 200000) != NULL; all += 200000)
        ;
    CHECK(all > space_left / 2);
    CHECK_EQUAL(space_statistics(h->space).reserved_bytes, reserved);
    return 0;
}

static void data_that_is_short_costs_no_addresses(void)
{
    if (limits_are_kept())
        CHECK_EQUAL(in_child_of_little_data(128 * (size_t)MIB, unused_addresses_stay), 0);
}

/* Tables for addresses that can never all be used would be data as well. */
static int nearly_all_is_for_objects(void)
{
    static const size_t sizes[] = {112, 3072, MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        heap *h = heap_create(0);
        REQUIRE(h != NULL);
        size_t all = exhaust(h, sizes[i]);
        if (!CHECK(all > space_left / 8 * 7))
            printf("%zu bytes in blocks of %zu\n", all, sizes[i]);
        heap_destroy(h);
    }
    return 0;
}

static void of_little_data_objects_get_nearly_all(void)
{
    if (limits_are_kept())
        CHECK_EQUAL(in_child_of_little_data(24 * (size_t)MIB, nearly_all_is_for_objects), 0);
}

/* Of each class an empty slab stays, until the system has no more. */
static void leave_empty_slabs(heap *h)
{
    void *objects[20];
    size_t count = 0;
    for (size_t bytes = HEAP_SMALL_BYTES + 1; bytes <= HEAP_MEDIUM_BYTES; bytes += bytes / 4)
        REQUIRE((objects[count++] = heap_allocate(h, bytes)) != NULL);
    for (size_t i = 0; i < count; i++)
        CHECK_OK(heap_free(h, objects[i]));
    CHECK(space_statistics(h->space).free_bytes > 10 * MIB);
}

static int large_after_one_of_each_size(void)
{
    heap *h = heap_create(0);
    REQUIRE(h != NULL);
    leave_empty_slabs(h);
    void *zeroed = heap_allocate_zeroed(h, space_left / 4 * 3);
    CHECK(zeroed != NULL && heap_free(h, zeroed) == SLABMALLOC_OK);
    leave_empty_slabs(h);
    void *aligned = heap_allocate_aligned(h, space_left / 4 * 3, MIB);
    CHECK(aligned != NULL && heap_free(h, aligned) == SLABMALLOC_OK);
    slabmalloc_status status;
    void *grown = heap_allocate(h, space_left / 3); /* there is no room for it beside what it shall become */
    leave_empty_slabs(h);
    grown = heap_reallocate(h, grown, space_left / 3 * 2, &status);
    CHECK(grown != NULL && heap_free(h, grown) == SLABMALLOC_OK);
    leave_empty_slabs(h);
    CHECK(exhaust(h, MIB) > space_left / 8 * 7);
    CHECK_HEAP(h, 0);
    heap_destroy(h);
    return 0;
}

static void large_blocks_get_what_empty_slabs_had(void)
{
    if (limits_are_kept())
        CHECK_EQUAL(in_child_of_little_data(24 * (size_t)MIB, large_after_one_of_each_size), 0);
}

/* A range as small as the limit once was is followed by others. */
static int small_objects_beyond_the_first_limit(void)
{
    enum { BYTES = 1000, COUNT = 64 * MIB / BYTES };
    struct rlimit limit, before;
    REQUIRE(getrlimit(RLIMIT_DATA, &before) == 0);
    limit = (struct rlimit){.rlim_cur = has_bytes(true) + 16 * (rlim_t)MIB, .rlim_max = before.rlim_max};
    REQUIRE(setrlimit(RLIMIT_DATA, &limit) == 0);
    heap *h = heap_create(0);
    REQUIRE(h != NULL);
    CHECK(space_statistics(h->space).reserved_bytes <= limit.rlim_cur + MIB);
    CHECK(exhaust(h, BYTES) > 12 * MIB);
    REQUIRE(setrlimit(RLIMIT_DATA, &before) == 0);
    for (int i = 0; i < COUNT; i++)
        REQUIRE(heap_allocate(h, BYTES) != NULL);
    CHECK(atomic_load(&h->space->range_count) > 1);
    CHECK_HEAP(h, COUNT);
    heap_destroy(h);
    return 0;
}

static void more_ranges_follow_when_data_is_short_no_more(void)
{
    if (limits_are_kept())
        CHECK_EQUAL(in_limited_child((size_t)1 << 40, small_objects_beyond_the_first_limit), 0);
}

/* Maps all of the address space but about `left`. */
static void fill_addresses(size_t left)
{
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_AS, &limit) == 0);
    size_t bytes = (size_t)limit.rlim_cur - has_bytes(false) - left;
    REQUIRE(mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED);
}

/* Whoever is refused all the same has taken nothing from anybody. */
static int hopeless_requests(void)
{
    heap *h = heap_create(0);
    REQUIRE(h != NULL);
    char *parted = heap_allocate(h, MIB), *whole = heap_allocate(h, 12 * (size_t)MIB);
    REQUIRE(parted != NULL && whole != NULL && heap_allocate(h, 100) != NULL);
    REQUIRE(madvise(parted + MIB / 2, MIB / 4, MADV_DONTFORK) == 0); /* two mappings, which can't grow as one */
    fill_addresses(3 * MIB);
    size_t reserved = space_statistics(h->space).reserved_bytes, missing_bytes;
    REQUIRE(reserved > 24 * (size_t)MIB);
    bool is_zero;
    CHECK_POINTER(space_allocate_large(h->space, reserved + 4 * MIB, 16, &is_zero), NULL);
    CHECK_POINTER(space_allocate_large(h->space, MIB, (size_t)1 << 62, &is_zero), NULL);
    CHECK_POINTER(space_allocate_large(h->space, SIZE_MAX, 16, &is_zero), NULL);
    CHECK_POINTER(space_resize_large(h->space, parted, 8 * (size_t)MIB), NULL);
    CHECK_POINTER(large_resize(&h->space->large, parted, 8 * (size_t)MIB, &missing_bytes), NULL);
    CHECK_EQUAL(missing_bytes, 0);
    CHECK_POINTER(space_resize_large(h->space, whole, reserved + 16 * MIB), NULL);
    CHECK_EQUAL(space_statistics(h->space).reserved_bytes, reserved);
    /* No more goes than is missing. */
    CHECK_POINTER(large_resize(&h->space->large, whole, 16 * (size_t)MIB, &missing_bytes), NULL);
    CHECK_EQUAL(missing_bytes, 4 * (size_t)MIB);
    CHECK(space_resize_large(h->space, whole, 16 * (size_t)MIB) != NULL);
    CHECK(space_statistics(h->space).reserved_bytes >= reserved - 5 * (size_t)MIB);
    CHECK(space_allocate_large(h->space, 8 * (size_t)MIB, 16, &is_zero) != NULL);
    CHECK(space_statistics(h->space).reserved_bytes >= reserved - 16 * (size_t)MIB);
    CHECK(heap_audit(h) == NULL);
    return 0;
}

static void requests_that_lending_cannot_help_cost_nothing(void)
{
    if (limits_are_kept())
        CHECK_EQUAL(in_limited_child(256 * (size_t)MIB, hopeless_requests), 0);
}

/* Bookkeeping needs memory of its own, and there are addresses for it. */
static int small_objects_in_full_address_space(void)
{
    heap *h = heap_create(0);
    REQUIRE(h != NULL);
    void *stays = heap_allocate(h, 100);
    size_t reserved = space_statistics(h->space).reserved_bytes;
    fill_addresses(0);
    CHECK(heap_open(h->space, NULL) != NULL);
    CHECK(exhaust(h, 100) > reserved / 2);
    CHECK_OK(heap_free(h, stays));
    return 0;
}

static void bookkeeping_gets_addresses_too(void)
{
    if (limits_are_kept())
        CHECK_EQUAL(in_limited_child(256 * (size_t)MIB, small_objects_in_full_address_space), 0);
}

/* A large object stays where the range was, and the system places the next range around it. */
static int hole_with_somebody_in_it(void)
{
    heap *h = heap_create(0);
    REQUIRE(h != NULL && heap_allocate(h, 100) != NULL);
    h->space->options.rest_bound_bytes = 0;
    const arena *a = &h->space->ranges[0].arena;
    char *last = NULL, *lowest = NULL, *next;
    for (char *block; (block = heap_allocate(h, MIB)) != NULL; last = block) {
        *(char **)block = last;
        if ((uintptr_t)block - a->base < a->reserved_bytes && (lowest == NULL || block < lowest))
            lowest = block;
    }
    REQUIRE(lowest != NULL);
    for (char *block = last; block != NULL; block = next) {
        next = *(char **)block;
        if (block != lowest)
            CHECK_OK(heap_free(h, block));
    }
    CHECK(exhaust(h, 50000) > space_left / 2);
    CHECK(arena_fresh(a) == a->reserved_bytes / ARENA_CHUNK_BYTES && a->lent_count <= 4);
    return 0;
}

static void the_rest_of_a_hole_comes_back(void)
{
    if (limits_are_kept())
        CHECK_EQUAL(in_limited_child(256 * (size_t)MIB, hole_with_somebody_in_it), 0);
}

int main(void)
{
    RUN(what_one_kind_had_another_gets);
    RUN(what_can_be_written_goes_from_one_kind_to_another);
    RUN(it_is_so_in_huge_pages);
    RUN(nothing_is_lent_without_a_limit);
    RUN(data_that_is_short_costs_no_addresses);
    RUN(of_little_data_objects_get_nearly_all);
    RUN(large_blocks_get_what_empty_slabs_had);
    RUN(more_ranges_follow_when_data_is_short_no_more);
    RUN(requests_that_lending_cannot_help_cost_nothing);
    RUN(bookkeeping_gets_addresses_too);
    RUN(the_rest_of_a_hole_comes_back);
    return check_finish();
}
