/* SPDX-License-Identifier: MIT
 *
 * heap_reallocate between all kinds of objects: contents are kept, the old object is gone if another is returned, and
 * what is refused leaves everything as it was.
 */
#include "space_fixture.h"

static const size_t sizes[] = {0,     1,     16,     17,     100,    1000,   4096,    8191,    8192,   8193,
                               16384, 50000, 100000, 131072, 131073, 200000, 1000000, 1048576, 5000000};
enum { SIZES = sizeof sizes / sizeof *sizes };

static char *reallocate(heap *h, char *object, size_t bytes)
{
    slabmalloc_status status = SLABMALLOC_OK;
    char *moved = heap_reallocate(h, object, bytes, &status);
    REQUIRE(moved != NULL);
    CHECK_OK(status);
    CHECK_EQUAL((uintptr_t)moved % HEAP_ALIGN_BYTES, 0);
    CHECK(heap_usable_bytes(h->space, moved) >= bytes && heap_usable_bytes(h->space, moved) > 0);
    return moved;
}

static void from_every_kind_to_every_kind(void)
{
    heap *h = heap_new(0);
    for (size_t from = 0; from < SIZES; from++)
        for (size_t to = 0; to < SIZES; to++) {
            char *object = heap_allocate(h, sizes[from]);
            REQUIRE(object != NULL);
            size_t usable = heap_usable_bytes(h->space, object), least = sizes[to] < usable ? sizes[to] : usable;
            stamp(object, usable, from);
            bool fits = heap_fits(usable, sizes[to]);
            char *moved = reallocate(h, object, sizes[to]);
            CHECK(is_stamped(moved, least, from));
            if (fits)
                CHECK_POINTER(moved, object);
            if (moved != object)
                CHECK(heap_free(h, object) != SLABMALLOC_OK);
            size_t now =
                heap_usable_bytes(h->space, moved); /* a small object doesn't sit in the place of a large one */
            CHECK(now - sizes[to] < 16 || now - sizes[to] < 4096 ||
                  (now - sizes[to]) * (now > HEAP_MEDIUM_BYTES ? 4 : 2) <= now);
            CHECK_HEAP(h, 1);
            stamp(moved, now, to);
            CHECK(is_stamped(moved, now, to));
            CHECK_OK(heap_free(h, moved));
        }
    CHECK_HEAP(h, 0);
    heap_trim(h);
    CHECK_EQUAL(space_statistics(h->space).mapped_bytes, 0);
    heap_destroy(h);
}

static void grown_step_by_step_and_back(void)
{
    heap *h = heap_new(RESERVE_LEAST);
    char *object = heap_allocate(h, 1), *between[80];
    size_t bytes = 1, count = 0;
    stamp(object, 1, 5);
    while (bytes < 16 * MIB) {
        size_t more = bytes + bytes / 3 + 1;
        object = reallocate(h, object, more);
        CHECK(is_stamped(object, bytes, 5));
        stamp(object, more, 5);
        bytes = more;
        between[count++] = heap_allocate(h, 200);
        CHECK_HEAP(h, count + 1);
    }
    while (bytes > 1) {
        bytes -= bytes / 3 + (bytes < 3);
        object = reallocate(h, object, bytes);
        CHECK(is_stamped(object, bytes, 5));
        CHECK_HEAP(h, count + 1);
    }
    CHECK(heap_usable_bytes(h->space, object) <= 64);
    CHECK(space_statistics(h->space).live_bytes < count * 256 + 64); /* what was behind went back on the way */
    CHECK_OK(heap_free(h, object));
    while (count-- > 0)
        CHECK_OK(heap_free(h, between[count]));
    CHECK_HEAP(h, 0);
    heap_destroy(h);
}

/* Who gives advice for a part of a large object makes two mappings of it, which the kernel does not grow. */
static void a_large_object_of_several_mappings(void)
{
    static const size_t to[] = {2 * MIB, 9 * MIB, 20 * MIB, 5000, 1};
    for (size_t i = 0; i < sizeof to / sizeof *to; i++) {
        heap *h = heap_new(RESERVE_LEAST);
        char *object = heap_allocate(h, 8 * MIB);
        REQUIRE(object != NULL);
        stamp(object, 8 * MIB, i);
        CHECK_EQUAL(madvise(object + 65536, 4 * MIB, MADV_DONTDUMP), 0);
        object = reallocate(h, object, to[i]);
        CHECK(is_stamped(object, to[i] < 8 * MIB ? to[i] : 8 * MIB, i));
        CHECK_HEAP(h, 1);
        CHECK_OK(heap_free(h, object));
        CHECK_HEAP(h, 0);
        heap_trim(h);
        CHECK_EQUAL(space_statistics(h->space).mapped_bytes, 0);
        heap_destroy(h);
    }
}

static void what_is_refused_leaves_the_object(void)
{
    heap *h = heap_new(RESERVE_LEAST);
    static const size_t impossible[] = {SIZE_MAX, SIZE_MAX - 7, SIZE_MAX - 4096, SIZE_MAX / 2, (size_t)1 << 60};
    for (size_t from = 0; from < SIZES; from++) {
        char *object = heap_allocate(h, sizes[from]);
        REQUIRE(object != NULL);
        size_t usable = heap_usable_bytes(h->space, object);
        stamp(object, usable, from);
        for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
            slabmalloc_status status = SLABMALLOC_OK;
            CHECK_POINTER(heap_reallocate(h, object, impossible[i], &status), NULL);
            CHECK_OK(status);
        }
        CHECK_HEAP(h, 1);
        CHECK_EQUAL(heap_usable_bytes(h->space, object), usable);
        CHECK(is_stamped(object, usable, from));
        CHECK_OK(heap_free(h, object));
    }
    heap_destroy(h);
}

/* Where no live object begins: the same as a free of the address would tell. */
static void what_is_wrong_is_told(void)
{
    heap *h = heap_new(RESERVE_LEAST), *stranger = heap_new(RESERVE_LEAST);
    int on_stack;
    char *object = heap_allocate(h, 100), *foreign = heap_allocate(stranger, 100),
         *large = heap_allocate(stranger, MIB);
    char *freed = heap_allocate(h, 300), *neighbour = heap_allocate(h, 300), *remote = heap_allocate(h, 300);
    CHECK(neighbour != NULL);
    CHECK_OK(heap_free(h, freed));
    CHECK_OK(heap_free_remote(h->space, remote));
    void *const wrong[] = {NULL,       &on_stack,   foreign,     large, (void *)1, (void *)UINTPTR_MAX,
                           object + 1, object + 16, object + 99, freed, remote};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        slabmalloc_status expected = heap_free(h, wrong[i]);
        CHECK(expected != SLABMALLOC_OK);
        for (size_t to = 0; to < SIZES; to++) {
            slabmalloc_status status = SLABMALLOC_OK;
            CHECK_POINTER(heap_reallocate(h, wrong[i], sizes[to], &status), NULL);
            CHECK(status != SLABMALLOC_OK);
            if (to == 0 && !CHECK_EQUAL(status, expected))
                printf("address %zu: %s, a free %s\n", i, check_status_name(status), check_status_name(expected));
        }
    }
    CHECK_HEAP(h, 2);
    CHECK_HEAP(stranger, 2);
    heap_destroy(h);
    heap_destroy(stranger);
}

/* An object of another heap moves into the caller's, unless it may stay where it is. */
static void objects_of_another_heap(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 0);
    heap *h = heap_of(s), *other = heap_of(s);
    CHECK(h != other);
    for (size_t from = 0; from < SIZES; from++)
        for (size_t to = 0; to < SIZES; to++) {
            char *object = heap_allocate(other, sizes[from]);
            REQUIRE(object != NULL);
            stamp(object, sizes[from], from);
            char *moved = reallocate(h, object, sizes[to]);
            CHECK(is_stamped(moved, sizes[to] < sizes[from] ? sizes[to] : sizes[from], from));
            if (moved != object)
                CHECK(heap_free(h, object) != SLABMALLOC_OK);
            CHECK_HEAP(h, 1);
            CHECK_OK(heap_free(h, moved));
        }
    CHECK_HEAP(h, 0);
    CHECK_HEAP(other, 0);
    heap_trim(h);
    heap_trim(other);
    CHECK_EQUAL(space_statistics(s).mapped_bytes, 0);
    space_destroy(s);
}

/* To the system it is several mappings then, which it does not move as one. */
static void grown_although_a_part_was_advised(void)
{
    heap *h = heap_new(RESERVE_LEAST);
    for (size_t bytes = 5 * MIB; bytes < 9 * (size_t)MIB; bytes += MIB + 4096) {
        char *object = heap_allocate(h, bytes);
        REQUIRE(object != NULL && madvise(object + 4096, bytes - 4096, MADV_DONTDUMP) == 0);
        stamp(object, bytes, 8);
        object = reallocate(h, object, 3 * bytes);
        CHECK(is_stamped(object, bytes, 8));
        CHECK_HEAP(h, 1);
        object = reallocate(h, object, bytes / 2);
        CHECK(is_stamped(object, bytes / 2, 8));
        CHECK_OK(heap_free(h, object));
    }
    CHECK_HEAP(h, 0);
    heap_destroy(h);
}

/* A text that grows by doubling, from small to large, is cut to its length and goes, once more and once more (orjson's
 * results do so): each takes the memory of the one before. */
static void one_after_the_other_grows(void)
{
    enum { BYTES = 332001, ROUNDS = 100 };
    heap *h = heap_new(0);
    large_space *l = &h->space->large;
    CHECK_OK(heap_free(h, heap_allocate(h, 64 * MIB))); /* a peak, below which what rests need not go */
    large_trim(l);
    h->looks_left[0] = h->looks_left[1] = 0; /* pages that come later would be paid for with what rests */
    for (int round = 0; round < ROUNDS; round++) {
        size_t bytes = 1024;
        char *object = heap_allocate(h, bytes);
        REQUIRE(object != NULL);
        for (; bytes < BYTES; bytes *= 2)
            object = reallocate(h, object, 2 * bytes);
        object = reallocate(h, object, BYTES);
        CHECK_OK(heap_free(h, object));
        if (!CHECK(l->resting_bytes < BYTES + HEAP_MEDIUM_BYTES))
            printf("%zu bytes rest after %d rounds\n", l->resting_bytes, round + 1);
    }
    CHECK(l->reused_count >= ROUNDS - 1);
    CHECK_HEAP(h, 0);
    heap_destroy(h);
}

int main(void)
{
    RUN(from_every_kind_to_every_kind);
    RUN(grown_step_by_step_and_back);
    RUN(a_large_object_of_several_mappings);
    RUN(what_is_refused_leaves_the_object);
    RUN(what_is_wrong_is_told);
    RUN(objects_of_another_heap);
    RUN(grown_although_a_part_was_advised);
    RUN(one_after_the_other_grows);
    return check_finish();
}
