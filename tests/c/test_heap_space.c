/* SPDX-License-Identifier: MIT
 *
 * The process heap's address space: how much it reserves, and how it makes do with less.
 */
#include "heap_fixture.h"
#include "limits.h"

/* In a child with `space_left` bytes of address space more than it has: how the heap copes. Exit status 0: well. */
static int create_in_little_space(void)
{
    heap *h = heap_create(0);
    if (h == NULL) {
        CHECK(space_left < 16 * (size_t)MIB);
        return 0;
    }
    size_t reserved = space_statistics(h->space).reserved_bytes;
    CHECK(reserved >= 4 * (size_t)MIB && reserved <= space_left);
    CHECK(reserved >= space_left / 16); /* a share; half of it, if not all of that was to be had */
    /* The rest is for whoever wants it, large objects among them. */
    bool has_room = space_left >= 64 * (size_t)MIB;
    CHECK(!has_room || heap_allocate(h, space_left / 3) != NULL);
    for (int i = 0; i < 10000; i++)
        CHECK(heap_allocate(h, 100) != NULL);
    CHECK_HEAP(h, 10000 + (size_t)has_room);
    heap_destroy(h);
    return 0;
}

static void reserve_falls_back_step_by_step(void)
{
    if (!limits_are_kept())
        return;
    for (size_t bytes = 4 * (size_t)MIB; bytes <= (size_t)40 << 30; bytes += bytes / 2)
        CHECK_EQUAL(in_limited_child(bytes, create_in_little_space), 0);
}

static void reserves_of_every_size(void)
{
    static const size_t sizes[] = {RESERVE_LEAST, RESERVE_LEAST + 1, RESERVE_LEAST + HEAP_PAGE_BYTES, (size_t)100 * MIB,
                                   (size_t)1 << 32};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        heap *h = heap_create(sizes[i]);
        if (!CHECK(h != NULL))
            continue;
        size_t reserved = space_statistics(h->space).reserved_bytes;
        CHECK(reserved >= RESERVE_LEAST && reserved < sizes[i] + HEAP_MEDIUM_PAGE_BYTES);
        CHECK(space_statistics(h->space).bookkeeping_bytes > 0);
        CHECK_HEAP(h, 0);
        heap_destroy(h);
    }
    /* Nobody grants that; half of it neither. (An emulator might, and keep a byte for each page of it.) */
    heap *h = !is_emulated() ? heap_create((size_t)1 << 62) : NULL;
    if (h != NULL) {
        memset(heap_allocate(h, 100), 1, 100);
        CHECK_HEAP(h, 1);
        heap_destroy(h);
    }
}

int main(void)
{
    RUN(reserve_falls_back_step_by_step);
    RUN(reserves_of_every_size);
    return check_finish();
}
