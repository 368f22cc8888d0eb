/* SPDX-License-Identifier: MIT
 *
 * Large objects: mappings with contents, alignment and accounts; blocks that rest, are used again and go back;
 * addresses that are no blocks.
 */
#include "space_fixture.h"

#include "heap/large_rest.h"

#define CHECK_LARGE(l) CHECK(large_is_valid(l))

static const large_rest no_rest = {0, 0, 0};

static large_space *large_new(void)
{
    large_space *l = calloc(1, sizeof *l);
    REQUIRE(l != NULL && large_init(l, &no_huge_pages, false));
    CHECK_LARGE(l);
    return l;
}

static void large_delete(large_space *l)
{
    large_end(l);
    free(l);
}

static large_rest rest_of(size_t bound_bytes, uint64_t now_ms)
{
    return (large_rest){.bound_bytes = bound_bytes, .other_live_bytes = 0, .now_ms = now_ms};
}

static char *allocate(large_space *l, size_t bytes, size_t align)
{
    bool is_zero = false;
    char *object = large_allocate(l, bytes, align, &is_zero);
    REQUIRE(object != NULL);
    CHECK_EQUAL((uintptr_t)object % align, 0);
    CHECK(large_usable_bytes(l, object) >= bytes);
    if (is_zero)
        CHECK(all_zero(object, large_usable_bytes(l, object)));
    return object;
}

static void sizes_and_alignments(void)
{
    large_space *l = large_new();
    static const size_t sizes[] = {1, 4096, 4097, 128 * KIB + 1, 1000 * KIB, 2 * MIB, 3 * MIB + 5, 9 * MIB};
    enum { SIZES = sizeof sizes / sizeof *sizes, ALIGNS = 21 }; /* 16 ... 16 MiB */
    static char *objects[SIZES][ALIGNS];
    size_t live_bytes = 0, count = 0;
    for (size_t s = 0; s < SIZES; s++)
        for (size_t a = 0; a < ALIGNS; a++) {
            char *object = objects[s][a] = allocate(l, sizes[s], (size_t)16 << a);
            stamp(object, sizes[s], s * 100 + a);
            live_bytes += large_usable_bytes(l, object);
            CHECK_LARGE(l);
            CHECK_EQUAL(l->live_count, ++count);
            CHECK_EQUAL(l->live_bytes, live_bytes);
            CHECK(large_usable_bytes(l, object) - sizes[s] < 4096); /* no more than the last OS page is lost */
        }
    CHECK_EQUAL(l->served_count, count);
    CHECK_EQUAL(l->reused_count, 0);
    for (size_t s = 0; s < SIZES; s++)
        for (size_t a = 0; a < ALIGNS; a++) {
            CHECK(is_stamped(objects[s][a], sizes[s], s * 100 + a));
            CHECK(large_free(l, objects[s][a], &no_rest));
            CHECK_LARGE(l);
        }
    CHECK_EQUAL(l->live_count + l->live_bytes + l->resting_bytes, 0);
    CHECK_EQUAL(l->given_back_bytes, live_bytes);
    CHECK(l->peak_bytes >= live_bytes);
    large_delete(l);
}

static void what_the_system_refuses(void)
{
    large_space *l = large_new();
    char *object = allocate(l, MIB, 16);
    stamp(object, MIB, 1);
    bool is_zero;
    static const size_t impossible[] = {SIZE_MAX,         SIZE_MAX - 15,    SIZE_MAX - 4095,
                                        SIZE_MAX - 65536, SIZE_MAX / 2 + 1, (size_t)1 << 60};
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        CHECK_POINTER(large_allocate(l, impossible[i], 16, &is_zero), NULL);
        CHECK_POINTER(large_allocate(l, impossible[i], 2 * MIB, &is_zero), NULL);
        CHECK_POINTER(large_resize(l, object, impossible[i], &(size_t){0}), NULL);
        CHECK_LARGE(l);
    }
    CHECK_POINTER(large_allocate(l, MIB, (size_t)1 << 60, &is_zero), NULL);
    CHECK_POINTER(large_allocate(l, MIB, (size_t)1 << 63, &is_zero), NULL);
    CHECK_EQUAL(l->live_count, 1);
    CHECK_EQUAL(l->live_bytes, MIB);
    CHECK(is_stamped(object, MIB, 1));
    CHECK_EQUAL(large_usable_bytes(l, object), MIB);
    large_delete(l); /* live blocks go back too */
}

static void addresses_that_are_no_blocks(void)
{
    large_space *l = large_new();
    char *object = allocate(l, MIB, 16), *rests = allocate(l, MIB, 16), *gone = allocate(l, 2 * MIB, 16);
    large_rest rest = rest_of(64 * (size_t)MIB, 5);
    CHECK(large_free(l, gone, &no_rest));
    CHECK(large_free(l, rests, &rest));
    int on_stack;
    void *const none[] = {NULL,          &on_stack,    (void *)1,  (void *)UINTPTR_MAX, object + 1, object + 16,
                          object + 4096, object + MIB, object - 1, object - 4096,       rests,      gone};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        CHECK(!large_free(l, none[i], &rest));
        CHECK(!large_free(l, none[i], &no_rest));
        CHECK_EQUAL(large_usable_bytes(l, none[i]), 0);
        CHECK_POINTER(large_resize(l, none[i], 3 * MIB, &(size_t){0}), NULL);
        CHECK_POINTER(large_resize(l, none[i], 128 * KIB, &(size_t){0}), NULL);
    }
    CHECK_LARGE(l);
    CHECK_EQUAL(l->live_count, 1);
    CHECK_EQUAL(l->live_bytes, MIB);
    CHECK_EQUAL(l->resting_bytes, MIB);
    CHECK(large_free(l, object, &no_rest));
    CHECK(!large_free(l, object, &no_rest));
    CHECK_LARGE(l);
    large_delete(l);
}

/* A block that rests is the next of its size, with its memory and its contents: so it must not be said to be zero. */
static void what_rests_is_used_again(void)
{
    large_space *l = large_new();
    large_rest rest = rest_of(64 * (size_t)MIB, 5);
    char *object = allocate(l, 3 * MIB, 16);
    memset(object, 7, 3 * MIB);
    CHECK(large_free(l, object, &rest));
    CHECK_EQUAL(l->resting_bytes, 3 * MIB);
    CHECK(resident_of(object, 3 * MIB) == 3 * MIB);
    bool is_zero = true;
    char *again = large_allocate(l, 3 * MIB, 16, &is_zero);
    CHECK_POINTER(again, object);
    CHECK(!is_zero && again[0] == 7);
    CHECK_EQUAL(l->reused_count, 1);
    CHECK_EQUAL(l->resting_bytes, 0);
    CHECK_EQUAL(l->live_bytes, 3 * MIB);
    CHECK(large_free(l, again, &rest));
    /* A much smaller one doesn't hold the memory of a large one for its life; fresh memory is paid for with what
     * rests. */
    size_t peak = l->peak_bytes;
    char *smaller = allocate(l, 256 * KIB, 16);
    CHECK(large_usable_bytes(l, smaller) < MIB);
    CHECK(l->live_bytes + l->resting_bytes <= peak);
    CHECK_EQUAL(l->resting_bytes + l->given_back_bytes, 3 * MIB);
    CHECK_EQUAL(l->peak_bytes, peak);
    large_trim(l);
    /* A larger one takes the memory of one that has half of it or more along. */
    CHECK(large_free(l, allocate(l, 3 * MIB, 16), &rest));
    char *larger = allocate(l, 4 * MIB, 16);
    CHECK_EQUAL(l->reused_count, 2);
    CHECK(large_usable_bytes(l, larger) < 5 * MIB);
    CHECK_LARGE(l);
    CHECK_EQUAL(l->resting_bytes, 0);
    CHECK_EQUAL(large_trim(l), 0);
    CHECK_LARGE(l);
    /* Nor is it handed out with less alignment than is asked for. */
    for (size_t align = 4096; align <= 8 * MIB; align *= 2) {
        char *first = allocate(l, 512 * KIB, 4096);
        CHECK(large_free(l, first, &rest));
        allocate(l, 512 * KIB, align);
    }
    CHECK_LARGE(l);
    large_delete(l);
}

/* After each free: resting <= max(bound, live / 8, the newest block). */
static void no_more_rests_than_may(void)
{
    check_seed = 11;
    random_source source = random_from(check_seed);
    static const size_t bounds[] = {0, MIB, 8 * MIB}, others[] = {0, 80 * MIB};
    for (size_t b = 0; b < 3; b++)
        for (size_t o = 0; o < 2; o++) {
            enum { LIVE = 60 };
            large_space *l = large_new();
            large_rest rest = {bounds[b], others[o], 1};
            char *objects[LIVE];
            for (size_t i = 0; i < LIVE; i++)
                objects[i] = allocate(l, 200 * KIB + random_below(&source, 3 * MIB), 16);
            for (size_t i = 0; i < LIVE; i++) {
                size_t newest = large_usable_bytes(l, objects[i]);
                CHECK(large_free(l, objects[i], &rest));
                CHECK_LARGE(l);
                size_t most = max_size(max_size(bounds[b], (l->live_bytes + others[o]) / 8), newest);
                CHECK(l->resting_bytes <= (bounds[b] == 0 ? 0 : most));
                CHECK(bounds[b] == 0 || l->resting_bytes >= newest); /* but the newest does rest */
            }
            large_delete(l);
        }
}

/* What goes back in a call is as much as it takes or frees, and a step; not the whole of a large block that is its
 * turn. */
static void little_goes_back_for_little(void)
{
    enum { LARGE = 48 * MIB, STEP = 2 * MIB };
    large_space *l = large_new();
    large_rest rest = rest_of(LARGE, 5);
    char *small[3] = {allocate(l, MIB, 16), allocate(l, MIB, 16), allocate(l, MIB, 16)},
         *object = allocate(l, LARGE, 16);
    memset(object, 1, LARGE);
    CHECK(large_free(l, object, &rest));
    CHECK_EQUAL(l->resting_bytes, LARGE);
    for (int i = 0; i < 3; i++) { /* over the bound */
        size_t before = l->given_back_bytes;
        CHECK(large_free(l, small[i], &rest));
        CHECK(l->resting_bytes <= LARGE && l->given_back_bytes - before <= MIB + STEP);
    }
    size_t before = l->given_back_bytes;
    large_shed(l, 64 * KIB);
    CHECK(l->given_back_bytes - before >= 64 * KIB && l->given_back_bytes - before <= STEP);
    for (int i = 0; i < 4; i++) { /* at the peak */
        l->most_live_bytes = l->live_bytes + l->resting_bytes;
        before = l->given_back_bytes;
        allocate(l, 5 * MIB, 16);
        CHECK(l->given_back_bytes - before >= 5 * MIB && l->given_back_bytes - before <= 5 * MIB + STEP);
        CHECK(l->live_bytes + l->resting_bytes <= l->most_live_bytes && l->owed_bytes == 0);
    }
    /* What is left of it is its beginning. */
    CHECK(l->resting_bytes > 10 * (size_t)MIB && resident_of(object, 10 * MIB) == 10 * MIB);
    CHECK(resident_of(object, LARGE) <= l->resting_bytes);
    CHECK_LARGE(l);
    large_delete(l);
}

/* However large the blocks are, nobody pays for all of them at once; what is owed goes in the next calls and ticks. */
static void what_is_owed_is_paid_in_parts(void)
{
    enum { BYTES = 64 * MIB, AT_ONCE = 16 * MIB, STEP = 2 * MIB };
    large_space *l = large_new();
    large_rest rest = rest_of(BYTES, 5);
    char *first = allocate(l, BYTES, 16), *second = allocate(l, BYTES, 16);
    memset(first, 1, BYTES);
    CHECK(large_free(l, first, &rest));
    l->most_live_bytes = BYTES;                      /* as if nothing more had ever been live */
    char *fresh = allocate(l, BYTES / 3, 4 * BYTES); /* no part of what rests is aligned so */
    CHECK(l->given_back_bytes >= AT_ONCE && l->given_back_bytes <= AT_ONCE + STEP);
    CHECK_EQUAL(l->live_bytes + l->resting_bytes, l->most_live_bytes + l->owed_bytes);
    size_t steps = 0;
    for (size_t before = l->given_back_bytes; l->owed_bytes > 0; before = l->given_back_bytes, steps++) {
        REQUIRE(steps < 100);
        CHECK(large_decay(l, 0) == (l->owed_bytes > 0)); /* nothing is old */
        CHECK(l->given_back_bytes - before <= STEP);
        CHECK_LARGE(l);
    }
    CHECK(steps > 1);
    /* The newest stays, whatever the bound. */
    large_trim(l);
    memset(second, 1, BYTES);
    rest = rest_of(MIB, 6);
    CHECK(large_free(l, second, &rest));
    CHECK(!large_decay(l, 0));
    CHECK_EQUAL(l->resting_bytes, BYTES);
    CHECK_EQUAL(l->owed_bytes, 0);
    CHECK(large_free(l, fresh, &rest));
    CHECK(l->owed_bytes > 0);
    while (large_decay(l, 0))
        CHECK_LARGE(l);
    CHECK_EQUAL(l->resting_bytes, align_up(BYTES / 3, os_page_bytes()));
    large_delete(l);
}

static void what_rests_goes_back_by_age_in_steps(void)
{
    enum { BLOCKS = 200 };
    large_space *l = large_new();
    char *objects[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        objects[i] = allocate(l, MIB, 16);
        objects[i][5] = 1;
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        large_rest rest = rest_of(SIZE_MAX, 100 + i);
        CHECK(large_free(l, objects[i], &rest));
    }
    CHECK_EQUAL(l->resting_bytes, (size_t)BLOCKS * MIB);
    CHECK(!large_decay(l, 0));
    CHECK(!large_decay(l, 99));
    CHECK_EQUAL(l->resting_bytes, (size_t)BLOCKS * MIB);
    size_t steps = 0, left = BLOCKS;
    for (bool more = true; more; steps++) {
        REQUIRE(steps < 10 * BLOCKS);
        size_t before = l->resting_bytes;
        more = large_decay(l, 100 + BLOCKS / 2);
        CHECK(large_is_valid(l) && before - l->resting_bytes <= (size_t)BLOCKS * MIB / 8); /* a bounded step */
    }
    left = l->resting_bytes / MIB;
    CHECK(left == BLOCKS / 2 || left == BLOCKS / 2 - 1); /* those of the very moment may stay or go */
    CHECK_EQUAL(l->given_back_bytes, (BLOCKS - left) * MIB);
    CHECK(l->oldest != NULL && !large_decay(l, 100 + BLOCKS / 2));
    /* It was the oldest that went; the newest are as they were. */
    char *again = large_allocate(l, MIB, 16, &(bool){false});
    CHECK_POINTER(again, objects[BLOCKS - 1]);
    CHECK_EQUAL(again[5], 1);
    CHECK_EQUAL(large_trim(l), (left - 1) * MIB);
    CHECK_EQUAL(l->resting_bytes, 0);
    CHECK_EQUAL(l->live_bytes, MIB);
    CHECK_LARGE(l);
    large_delete(l);
}

/* The oldest is locked, and the system neither cuts it out of its mapping nor takes its memory: the next one goes. An
 * odd address stands in for such a block: the system does nothing for it either. */
static void what_does_not_go_is_passed_over(void)
{
    large_space *l = large_new();
    large_rest rest = rest_of(64 * (size_t)MIB, 5);
    char *locked[2] = {allocate(l, MIB, 16), allocate(l, MIB, 16)}, *other = allocate(l, 3 * MIB, 16);
    for (int i = 0; i < 2; i++) {
        CHECK(large_free(l, locked[i], &rest));
        l->newest->address++;
    }
    CHECK(large_free(l, other, &rest));
    CHECK(rest_yields(l));
    CHECK_EQUAL(l->given_back_bytes, 3 * MIB);
    CHECK(l->oldest == NULL && l->resting_bytes == 0);
    CHECK(!rest_yields(l));
    for (large_block *b = l->hollow; b != NULL; b = b->next)
        b->address--;
    CHECK_LARGE(l);
    large_delete(l);
}

static void contents_are_kept_across_resize(void)
{
    check_seed = 12;
    random_source source = random_from(check_seed);
    large_space *l = large_new();
    size_t bytes = 200 * KIB, other_bytes = 4 * MIB;
    char *object = allocate(l, bytes, 16), *other = allocate(l, other_bytes, 16);
    stamp(object, bytes, 77);
    stamp(other, other_bytes, 78);
    for (int step = 0; step < 300; step++) {
        size_t wanted = 129 * KIB + random_below(&source, random_below(&source, 10) == 0 ? 24 * MIB : 2 * MIB);
        char *moved = large_resize(l, object, wanted, &(size_t){0});
        REQUIRE(moved != NULL);
        if (moved != object)
            CHECK_EQUAL(large_usable_bytes(l, object), 0);
        object = moved;
        size_t usable = large_usable_bytes(l, object);
        CHECK(usable >= wanted && usable - wanted < 4096 + wanted / 4);
        CHECK(is_stamped(object, bytes < wanted ? bytes : wanted, 77));
        stamp(object, usable, 77);
        bytes = wanted;
        CHECK_LARGE(l);
        CHECK_EQUAL(l->live_count, 2);
        CHECK_EQUAL(l->live_bytes, usable + large_usable_bytes(l, other));
    }
    CHECK(is_stamped(other, other_bytes, 78));
    /* A block that shrinks gives the memory behind back. */
    object = large_resize(l, object, 32 * MIB, &(size_t){0});
    REQUIRE(object != NULL);
    memset(object, 1, 32 * MIB);
    object = large_resize(l, object, MIB, &(size_t){0});
    REQUIRE(object != NULL);
    CHECK(large_usable_bytes(l, object) <= 2 * MIB);
    CHECK(l->live_bytes <= 2 * MIB + large_usable_bytes(l, other));
    CHECK_LARGE(l);
    large_delete(l);
}

int main(void)
{
    RUN(sizes_and_alignments);
    RUN(what_the_system_refuses);
    RUN(addresses_that_are_no_blocks);
    RUN(what_rests_is_used_again);
    RUN(no_more_rests_than_may);
    RUN(little_goes_back_for_little);
    RUN(what_is_owed_is_paid_in_parts);
    RUN(what_rests_goes_back_by_age_in_steps);
    RUN(what_does_not_go_is_passed_over);
    RUN(contents_are_kept_across_resize);
    return check_finish();
}
