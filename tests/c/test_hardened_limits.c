/* SPDX-License-Identifier: MIT
 *
 * A hardened heap whose memory is out: what it keeps, empty slabs and blocks in quarantine, is for whoever would else
 * be refused; who asks for more than there can be empties nothing.
 */
#include "hardened_fixture.h"
#include "limits.h"

/* Sizes whose classes keep back 256 blocks each. */
static const size_t sizes[] = {40, 72, 104, 136};
enum { SIZES = sizeof sizes / sizeof *sizes, QUARTER = 4 };

static heap *lasting_heap(size_t reserve_bytes)
{
    space *s = hardened_space_new(reserve_bytes);
    s->options.max_ranges = reserve_bytes == 0 ? SPACE_MAX_RANGES : 1;
    s->options.decay_ms = 1000000; /* nothing goes by itself */
    return heap_of(s);
}

/* Blocks of all sizes in turn, as many as there are, are made and freed, some of them last: these are kept back, and
 * lie scattered over all slabs. Returns the bytes of all. */
static size_t fill_and_free(heap *h)
{
    void *first = NULL, *next, *kept = NULL;
    size_t count = 0, bytes = 0;
    for (void **block; (block = heap_allocate(h, sizes[count % SIZES])) != NULL; first = block, count++) {
        *block = first;
        bytes += sizes[count % SIZES];
    }
    size_t step = count / (SIZES * HARDENED_QUARANTINE_MOST) | 1; /* odd: of all sizes */
    for (void *block = first; block != NULL; block = next) {
        next = *(void **)block;
        if (count-- % step == 0) {
            *(void **)block = kept;
            kept = block;
        } else {
            CHECK_OK(heap_free(h, block));
        }
    }
    for (; kept != NULL; kept = next) {
        next = *(void **)kept;
        CHECK_OK(heap_free(h, kept));
    }
    CHECK(hardened_holds_any(h) && heap_audit(h) == NULL);
    return bytes;
}

static int large_blocks_get_what_small_ones_had(void)
{
    heap *h = lasting_heap(0);
    size_t all = fill_and_free(h);
    CHECK(all > space_left / 4);
    char *large = heap_allocate(h, all);
    REQUIRE(large != NULL);
    CHECK(all_zero(large, all));
    CHECK(!hardened_holds_any(h));
    CHECK_OK(heap_free(h, large));
    CHECK_EQUAL(damages_of(h->space), 0);
    CHECK_HEAP(h, 0);
    space_destroy(h->space);
    return 0;
}

static void large_blocks_get_what_is_kept(void)
{
    if (!limits_are_kept())
        return;
    CHECK_EQUAL(in_limited_child(128 * (size_t)MIB, large_blocks_get_what_small_ones_had), 0);
    CHECK_EQUAL(in_child_of_little_data(64 * (size_t)MIB, large_blocks_get_what_small_ones_had), 0);
}

/* Blocks in quarantine are not given up for less than there is need of. */
static int empty_slabs_go_before_the_quarantine(void)
{
    heap *h = lasting_heap(0);
    enum { BYTES = 1000 };
    void *last = NULL, *next;
    size_t all = 0;
    for (void **block; (block = heap_allocate(h, BYTES)) != NULL; last = block, all += BYTES)
        *block = last;
    for (void *block = last; block != NULL; block = next) {
        next = *(void **)block;
        CHECK_OK(heap_free(h, block));
    }
    CHECK(heap_allocate(h, all / QUARTER) != NULL);
    CHECK(hardened_holds_any(h));
    return 0;
}

static void the_quarantine_goes_last(void)
{
    if (limits_are_kept())
        CHECK_EQUAL(in_limited_child(128 * (size_t)MIB, empty_slabs_go_before_the_quarantine), 0);
}

static int hopeless_requests(void)
{
    heap *h = lasting_heap(0);
    fill_and_free(h);
    size_t mapped = space_statistics(h->space).mapped_bytes;
    CHECK_POINTER(heap_allocate(h, (size_t)1 << 40), NULL);
    CHECK_POINTER(heap_allocate(h, space_left + 8 * (size_t)MIB), NULL);
    CHECK_POINTER(heap_allocate_aligned(h, MIB, (size_t)1 << 62), NULL);
    CHECK_POINTER(heap_allocate(h, SIZE_MAX), NULL);
    CHECK_EQUAL(space_statistics(h->space).mapped_bytes, mapped);
    CHECK(hardened_holds_any(h));
    return 0;
}

static void who_asks_for_too_much_empties_nothing(void)
{
    if (limits_are_kept())
        CHECK_EQUAL(in_limited_child(128 * (size_t)MIB, hopeless_requests), 0);
    /* Nor does he where there is no limit. */
    heap *h = lasting_heap(8 * (size_t)MIB);
    fill_and_free(h);
    CHECK_POINTER(heap_allocate(h, (size_t)1 << 60), NULL);
    CHECK(hardened_holds_any(h));
    space_destroy(h->space);
}

/* Of a class that has none. */
static void pages_get_what_is_kept(void)
{
    heap *h = lasting_heap(8 * (size_t)MIB);
    fill_and_free(h);
    char *medium = heap_allocate(h, 100000);
    CHECK(medium != NULL && all_zero(medium, 100000));
    CHECK(damages_of(h->space) == 0 && heap_audit(h) == NULL);
    space_destroy(h->space);
}

/* What comes out of quarantine so, and was written to, is found as ever. It is held for good, and nothing to ask for
 * again and again. */
static void what_was_damaged_is_found_then(void)
{
    heap *h = lasting_heap(8 * (size_t)MIB);
    char *block = block_among_others(h, sizes[0]);
    CHECK_OK(heap_free(h, block));
    block[0] = 1;
    while (heap_allocate(h, sizes[0]) != NULL)
        ;
    CHECK_EQUAL(damages_of(h->space), 1);
    CHECK_POINTER(atomic_load(&last_damaged), block);
    CHECK(hardened_holds_any(h) && !heap_yield(h));
    CHECK(heap_audit(h) == NULL);
    space_destroy(h->space);
}

int main(void)
{
    RUN(large_blocks_get_what_is_kept);
    RUN(the_quarantine_goes_last);
    RUN(who_asks_for_too_much_empties_nothing);
    RUN(pages_get_what_is_kept);
    RUN(what_was_damaged_is_found_then);
    return check_finish();
}
