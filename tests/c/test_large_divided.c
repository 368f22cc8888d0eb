/* SPDX-License-Identifier: MIT
 *
 * Large objects that begin short and grow, and resting ones that are longer than what is asked for: they are divided,
 * what is left over rests on and comes back, and a loop over such objects takes no more memory than one round of it.
 * Long ones are divided for long ones alone.
 */
#include "space_fixture.h"

#include <sys/mman.h>

static const large_rest rest = {.bound_bytes = 64 * (size_t)MIB, .now_ms = 5};

/* It has held as much once, so that nothing goes back for the sake of its peak. */
static large_space *large_new_with(const huge_use *huge)
{
    large_space *l = calloc(1, sizeof *l);
    REQUIRE(l != NULL && large_init(l, huge, false));
    l->most_live_bytes = 256 * (size_t)MIB;
    return l;
}

static large_space *large_new(void) { return large_new_with(&no_huge_pages); }

static void large_delete(large_space *l)
{
    CHECK(large_is_valid(l));
    large_end(l);
    free(l);
}

static char *allocate(large_space *l, size_t bytes, uint64_t tag)
{
    char *object = large_allocate(l, bytes, 16, &(bool){false});
    REQUIRE(object != NULL && large_usable_bytes(l, object) >= bytes);
    stamp(object, bytes, tag);
    CHECK(large_is_valid(l));
    return object;
}

/* Stamped with the tag before and afterwards. */
static char *resize(large_space *l, char *object, size_t before, size_t bytes, uint64_t tag)
{
    object = large_resize(l, object, bytes, &(size_t){0});
    REQUIRE(object != NULL);
    size_t usable = large_usable_bytes(l, object);
    CHECK(usable >= bytes && usable - bytes < 4096 + bytes / 4);
    CHECK(is_stamped(object, before < bytes ? before : bytes, tag));
    stamp(object, bytes, tag);
    CHECK(large_is_valid(l));
    return object;
}

static void release(large_space *l, char *object)
{
    CHECK(large_free(l, object, &rest));
    CHECK(large_is_valid(l));
}

/* One round of what a text does that grows by doubling, is cut to its length, and goes. */
static char *grow_and_cut(large_space *l, size_t bytes, uint64_t tag)
{
    size_t have = 256 * KIB;
    char *object = allocate(l, have, tag);
    for (; have < bytes; have *= 2)
        object = resize(l, object, have, 2 * have, tag);
    return resize(l, object, have, bytes, tag);
}

static void rounds_of_growth_rest_as_one(void)
{
    static const size_t sizes[] = {300001, 332001, 524288, 700001, 1100001, 2 * MIB, 3100001, 4 * MIB, 10000001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        large_space *l = large_new();
        size_t bytes = align_up(sizes[i], os_page_bytes());
        for (uint64_t round = 0; round < 30; round++) {
            release(l, grow_and_cut(l, sizes[i], round));
            /* One that is divided serves the next round; of longer ones there may be the short one that it begins
             * with. */
            if (!CHECK(l->resting_bytes <= bytes + (bytes > 2 * MIB ? 2 * MIB + 256 * KIB : 0)))
                printf("%zu bytes rest after %zu in round %zu\n", l->resting_bytes, bytes, (size_t)round);
        }
        CHECK(bytes > 2 * MIB || l->reused_count == 29);
        large_delete(l);
    }
}

/* Several at once are each served by what rests: no fresh memory but what they are cut by. */
static void rounds_of_several(void)
{
    enum { OBJECTS = 8, BYTES = 700 * KIB };
    large_space *l = large_new();
    for (uint64_t round = 0; round < 10; round++) {
        char *objects[OBJECTS];
        for (size_t i = 0; i < OBJECTS; i++)
            objects[i] = grow_and_cut(l, BYTES, round * OBJECTS + i);
        CHECK_EQUAL(l->live_bytes + l->resting_bytes, OBJECTS * BYTES);
        for (size_t i = 0; i < OBJECTS; i++) {
            CHECK(is_stamped(objects[i], BYTES, round * OBJECTS + i));
            release(l, objects[i]);
        }
        CHECK_EQUAL(l->resting_bytes, OBJECTS * BYTES);
    }
    CHECK_EQUAL(l->reused_count, 9 * OBJECTS);
    large_delete(l);
}

/* What is left over keeps its memory, and comes back in place; it costs nothing but the books. */
static void what_is_left_over_comes_back(void)
{
    large_space *l = large_new();
    char *whole = allocate(l, MIB, 1);
    release(l, whole);
    char *front = large_allocate(l, 256 * KIB, 16, &(bool){true});
    CHECK_POINTER(front, whole);
    CHECK_EQUAL(large_usable_bytes(l, front), 256 * KIB);
    CHECK_EQUAL(l->live_bytes, 256 * KIB);
    CHECK_EQUAL(l->resting_bytes, 768 * KIB);
    stamp(front, 256 * KIB, 2);
    /* As much as is needed, if it is worth while; with the little that would be left, else. */
    CHECK_POINTER(resize(l, front, 256 * KIB, 512 * KIB, 2), front);
    CHECK_EQUAL(large_usable_bytes(l, front), 512 * KIB);
    CHECK_EQUAL(l->resting_bytes, 512 * KIB);
    CHECK(resident_of(whole, MIB) == MIB);
    CHECK_POINTER(resize(l, front, 512 * KIB, 900 * KIB, 2), front);
    CHECK_EQUAL(large_usable_bytes(l, front), MIB);
    CHECK_EQUAL(l->resting_bytes, 0);
    CHECK_EQUAL(l->given_back_bytes, 0);
    release(l, front);
    /* Two sizes in turn share a block, and so do more. */
    static const size_t sizes[] = {MIB, 200 * KIB, 600 * KIB, 400 * KIB, MIB};
    for (size_t i = 0; i < 25; i++) {
        front = allocate(l, sizes[i % 5], i);
        CHECK(front >= whole && front + sizes[i % 5] <= whole + MIB);
        release(l, front);
        CHECK_EQUAL(l->resting_bytes, MIB);
    }
    CHECK_EQUAL(l->given_back_bytes, 0);
    CHECK(resident_of(whole, MIB) == MIB);
    large_delete(l);
}

/* Beyond what rests behind it the kernel takes it along, memory and all; or there is none, and it is as it was. */
static void it_grows_beyond_what_is_left_over(void)
{
    large_space *l = large_new();
    release(l, allocate(l, MIB, 1));
    char *front = allocate(l, 256 * KIB, 2), *second = allocate(l, 256 * KIB, 3);
    CHECK_EQUAL(l->reused_count, 2);
    CHECK_EQUAL(l->live_bytes + l->resting_bytes, MIB);
    /* What rests lies behind the second. */
    bool is_zero;
    CHECK_POINTER(large_resize(l, second, SIZE_MAX / 4, &(size_t){0}), NULL);
    CHECK(large_is_valid(l));
    CHECK(is_stamped(second, 256 * KIB, 3) && large_usable_bytes(l, second) == 256 * KIB);
    release(l, front);
    release(l, second);
    front = large_allocate(l, MIB, 16, &is_zero);
    REQUIRE(front != NULL);
    release(l, front);
    front = allocate(l, 256 * KIB, 4);
    size_t held = l->live_bytes + l->resting_bytes;
    front = resize(l, front, 256 * KIB, 4 * MIB, 4);
    CHECK(l->live_bytes == 4 * MIB && l->live_bytes + l->resting_bytes <= held + 4 * MIB);
    /* A front that shrinks, or goes, leaves what rests behind it to itself. */
    release(l, allocate(l, MIB + 512 * KIB, 5));
    char *short_one = allocate(l, 300 * KIB, 6);
    short_one = resize(l, short_one, 300 * KIB, 200 * KIB, 6);
    short_one = resize(l, short_one, 200 * KIB, 2 * MIB, 6);
    release(l, short_one);
    CHECK(is_stamped(front, 4 * MIB, 4));
    large_trim(l);
    CHECK_EQUAL(l->live_bytes, 4 * MIB);
    CHECK(is_stamped(front, 4 * MIB, 4));
    large_delete(l);
}

/* It is as old as it was: a loop over the front does not keep it. */
static void what_is_left_over_goes_by_its_age(void)
{
    large_space *l = large_new();
    release(l, allocate(l, MIB, 1));
    large_rest later = {.bound_bytes = rest.bound_bytes, .now_ms = rest.now_ms + 1000};
    char *front = allocate(l, 256 * KIB, 2);
    CHECK(large_free(l, front, &later));
    while (large_decay(l, later.now_ms))
        ;
    CHECK_EQUAL(l->resting_bytes, 256 * KIB);
    CHECK_EQUAL(l->given_back_bytes, 768 * KIB);
    CHECK(large_is_valid(l));
    large_delete(l);
}

static void short_ones_divide_no_long_one(void)
{
    large_space *l = large_new();
    char *object = allocate(l, 8 * MIB, 1);
    release(l, object);
    char *other = allocate(l, 256 * KIB, 2);
    CHECK(other < object || other >= object + 8 * MIB);
    CHECK_EQUAL(l->resting_bytes, 8 * MIB);
    large_delete(l);
    /* Nor what may lie in a huge page. */
    const huge_use huge = {.bytes = MIB};
    l = large_new_with(&huge);
    release(l, allocate(l, MIB, 1));
    allocate(l, 256 * KIB, 2);
    CHECK_EQUAL(l->reused_count, 0);
    release(l, allocate(l, MIB - 64 * KIB, 1));
    CHECK_EQUAL(l->reused_count, 1);
    large_delete(l);
}

/* Long blocks of many sizes share memory: no more of it is fresh than at the most they need at once. */
static void long_ones_divide_a_long_one(void)
{
    static const huge_use *const uses[] = {&no_huge_pages, &advised_huge_pages, &wanted_huge_pages,
                                           &unasked_huge_pages};
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        large_space *l = large_new_with(uses[i]);
        char *whole = allocate(l, 24 * MIB, 1);
        release(l, whole);
        size_t bytes = 9 * MIB + 512 * KIB;
        char *front = allocate(l, bytes, 2), *second = allocate(l, 24 * MIB - bytes, 3);
        CHECK_POINTER(front, whole);
        CHECK_POINTER(second, whole + bytes);
        CHECK_EQUAL(l->reused_count, 2);
        CHECK(l->live_bytes == 24 * MIB && l->resting_bytes == 0);
        CHECK(is_stamped(front, bytes, 2));
        /* Whole again, in whatever order they go; then a front that grows by steps into what it was cut from. */
        release(l, second);
        release(l, front);
        CHECK_POINTER(allocate(l, 24 * MIB, 4), whole);
        release(l, whole);
        bytes = 2 * MIB;
        front = allocate(l, bytes, 5);
        CHECK_POINTER(front, whole);
        for (size_t more = bytes + 64 * KIB; more < 16 * MIB; bytes = more, more += more / 8 / 4096 * 4096)
            CHECK_POINTER(resize(l, front, bytes, more, 5), whole);
        CHECK_EQUAL(l->live_bytes + l->resting_bytes, 24 * MIB);
        CHECK_EQUAL(l->given_back_bytes, 0);
        large_delete(l);
    }
}

static void part_of_a_divided_block_goes_back(void)
{
    static const size_t cuts[] = {2 * MIB + 60 * KIB, 3 * MIB, 5 * MIB - 4 * KIB, 6 * MIB + 100 * KIB};
    for (size_t i = 0; i < 2 * sizeof cuts / sizeof *cuts; i++) {
        size_t cut = cuts[i / 2], rest_bytes = 8 * MIB - cut;
        large_space *l = large_new_with(&wanted_huge_pages);
        release(l, allocate(l, 8 * MIB, 1));
        char *front = allocate(l, cut, 2), *second = front + cut;
        CHECK_EQUAL(l->resting_bytes, rest_bytes);
        if (i % 2 != 0) { /* the front goes, and its neighbour stays */
            REQUIRE(rest_bytes < 2 * MIB || allocate(l, rest_bytes, 3) == second);
            release(l, front);
        }
        large_trim(l);
        CHECK(i % 2 != 0 || is_stamped(front, cut, 2));
        CHECK(i % 2 == 0 || rest_bytes < 2 * MIB || is_stamped(second, rest_bytes, 3));
        large_delete(l);
    }
}

/* What goes back of a block that was divided within a huge page goes for good. */
static void no_huge_page_is_given_back_in_part(void)
{
    if (has_huge_pages())
        CHECK_NONE_IN_PART(part_of_a_divided_block_goes_back);
}

/* What a block has taken of a neighbour that held no more memory than that stays, when the neighbour goes. */
static void what_was_joined_stays_when_the_rest_goes(void)
{
#ifdef MADV_PAGEOUT
    static const huge_use *const uses[] = {&no_huge_pages, &advised_huge_pages, &wanted_huge_pages};
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        large_space *l = large_new_with(uses[i]);
        release(l, allocate(l, 16 * MIB, 1));
        char *front = allocate(l, 4 * MIB, 2);
        while (l->resting_bytes > 5 * MIB / 2)
            large_decay(l, UINT64_MAX);
        CHECK(l->resting_bytes > 0);
        CHECK_POINTER(resize(l, front, 4 * MIB, 7 * MIB, 2), front);
        CHECK_EQUAL(l->resting_bytes, 0);
        memset(front, 3, 7 * MIB);
        while (l->oldest != NULL)
            large_decay(l, UINT64_MAX);
        madvise(front, 7 * MIB, MADV_PAGEOUT); /* as when memory is short: what is marked as free goes */
        for (size_t at = 0; at < 7 * MIB; at += 512)
            if (!CHECK_EQUAL(front[at], 3))
                break;
        large_delete(l);
    }
#endif
}

/* A block that can't serve is in nobody's way. */
static void what_is_purged_hides_no_neighbour(void)
{
    large_space *l = large_new();
    release(l, allocate(l, 48 * MIB, 1));
    char *front = allocate(l, 16 * MIB, 2), *second = allocate(l, 32 * MIB, 3);
    CHECK_POINTER(second, front + 16 * MIB);
    release(l, front);
    large_decay(l, UINT64_MAX);
    release(l, second);
    CHECK(l->resting_bytes < 48 * MIB);
    CHECK_POINTER(allocate(l, 8 * MIB, 4), second);
    large_delete(l);
}

int main(void)
{
    RUN(rounds_of_growth_rest_as_one);
    RUN(rounds_of_several);
    RUN(what_is_left_over_comes_back);
    RUN(it_grows_beyond_what_is_left_over);
    RUN(what_is_left_over_goes_by_its_age);
    RUN(short_ones_divide_no_long_one);
    RUN(long_ones_divide_a_long_one);
    RUN(no_huge_page_is_given_back_in_part);
    RUN(what_was_joined_stays_when_the_rest_goes);
    RUN(what_is_purged_hides_no_neighbour);
    return check_finish();
}
