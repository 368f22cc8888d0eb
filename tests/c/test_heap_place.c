/* SPDX-License-Identifier: MIT
 *
 * What can be told of an address, right or wrong: heap_inspect, and the sizes that an object may have been asked for
 * with.
 */
#include "space_fixture.h"

static void in_a_slab(void)
{
    heap *h = heap_create(4 * MIB);
    char *objects[43]; /* two slabs of 21, and one more */
    for (int i = 0; i < 43; i++)
        objects[i] = heap_allocate(h, 3000);
    heap_place place = heap_inspect(h->space, objects[3] + 17);
    CHECK(place.kind == HEAP_SLOT && place.object == objects[3] && place.is_live && !place.is_current);
    CHECK(place.object_bytes == 3072 && place.slot_index == 3 && place.capacity == 21 && place.live_count == 21);
    place = heap_inspect(h->space, objects[42]);
    CHECK(place.is_current && place.is_live && place.live_count == 1);
    CHECK_OK(heap_free(h, objects[3]));
    CHECK_OK(heap_free_remote(h->space, objects[4])); /* counts, collected or not */
    for (int i = 3; i < 5; i++) {
        place = heap_inspect(h->space, objects[i]);
        CHECK(place.kind == HEAP_SLOT && !place.is_live && place.live_count == 19);
    }
    char *page = (char *)((uintptr_t)objects[0] & ~(uintptr_t)(HEAP_PAGE_BYTES - 1));
    place = heap_inspect(h->space, page + HEAP_PAGE_BYTES - 1);
    CHECK(place.kind == HEAP_TAIL && place.object == NULL && !place.is_live && place.object_bytes == 3072);
    heap_destroy(h);
}

static void on_a_page_that_is_no_slab(void)
{
    heap *h = heap_create(4 * MIB);
    char *objects[64]; /* three full slabs: of empty ones that are not current a heap keeps one */
    for (int i = 0; i < 64; i++)
        objects[i] = heap_allocate(h, 3000);
    CHECK(heap_inspect(h->space, objects[0] + 3 * MIB).kind == HEAP_PAGE_UNUSED);
    for (int i = 0; i < 64; i++)
        CHECK_OK(heap_free(h, objects[i]));
    CHECK(heap_inspect(h->space, objects[21]).kind == HEAP_PAGE_RESTING);
    CHECK_STATUS(heap_free(h, objects[21]), FREE_FOREIGN);
    heap_trim(h);
    heap_place place = heap_inspect(h->space, objects[21]);
    CHECK(place.kind == HEAP_PAGE_PURGED && place.object == NULL && place.object_bytes == 0);
    heap_destroy(h);
}

static void in_a_large_object(void)
{
    heap *h = heap_create(4 * MIB);
    space *s = h->space;
    char *object = heap_allocate(h, 2 * MIB);
    heap_place place = heap_inspect(s, object + 100);
    CHECK(place.kind == HEAP_LARGE && place.object == object && place.object_bytes == 2 * MIB && place.is_live);
    CHECK(heap_inspect(s, object + 2 * MIB).object != object && heap_inspect(s, object - 1).object != object);
    CHECK_OK(heap_free(h, object));
    place = heap_inspect(s, object + 2 * MIB - 1);
    CHECK(place.kind == HEAP_LARGE_RESTING && place.object == object && !place.is_live);
    CHECK(heap_owns(s, object) && !heap_owns(s, object + 1));
    heap_trim(h);
    place = heap_inspect(s, object + 100);
    CHECK(place.kind == HEAP_LARGE_GONE && place.object == object && place.object_bytes == 2 * MIB && !place.is_live);
    CHECK(!heap_owns(s, object) && heap_inspect(s, &place).kind == HEAP_NOWHERE &&
          heap_inspect(s, NULL).object == NULL);
    heap_destroy(h);
}

static void where_a_large_object_was(void)
{
    enum { OBJECTS = LARGE_TRACES + 10 };
    heap *h = heap_create(4 * MIB);
    space *s = h->space;
    char *objects[OBJECTS];
    for (int i = 0; i < OBJECTS; i++)
        objects[i] = heap_allocate(h, MIB);
    slabmalloc_status status;
    char *moved = heap_reallocate(h, objects[0], 64 * MIB, &status);
    REQUIRE(moved != NULL);
    heap_place place = heap_inspect(s, objects[0]);
    if (moved != objects[0]) /* it is the kernel's choice */
        CHECK(place.kind == HEAP_LARGE_MOVED && place.object_bytes == MIB && !place.is_live);
    for (int i = 1; i < OBJECTS; i++)
        CHECK_OK(heap_free(h, objects[i]));
    heap_trim(h);
    for (int i = 1; i < OBJECTS; i++) /* the oldest go first, and of them nothing is remembered */
        CHECK(heap_inspect(s, objects[i]).kind == (i < OBJECTS - LARGE_TRACES ? HEAP_NOWHERE : HEAP_LARGE_GONE));
    CHECK(heap_inspect(s, moved).kind == HEAP_LARGE);
    heap_destroy(h);
}

static const void *late_object;

static void note_late(space *s, const void *object)
{
    (void)s;
    late_object = object;
}

/* Two frees of which neither could know of the other: the owner's, as it is between its look at the bits and the
 * write. */
static void freed_by_two_threads_at_once(void)
{
    space_options options = space_options_default();
    options.reserve_bytes = 4 * MIB;
    options.late_double_free = note_late;
    space *s = space_create(&options);
    heap *h = heap_of(s);
    char *objects[] = {heap_allocate(h, 3000), heap_allocate(h, 3000)};
    CHECK_OK(heap_free_remote(s, objects[0]));
    CHECK_OK(heap_free_remote(s, objects[1]));
    slab *found = space_slab_at(s, (uintptr_t)objects[1]);
    ASSUME(found != NULL);
    size_t slot = (size_t)(objects[1] - (char *)slab_page(found)) / 3072;
    word_set(&found->local[slot / WORD_BITS], word_get(&found->local[slot / WORD_BITS]) | word_bit(slot));
    CHECK_EQUAL(slabmalloc_zone_collect(h->view.zone), 1);
    CHECK_POINTER(late_object, objects[1]);
    CHECK_EQUAL(slabmalloc_zone_stats(h->view.zone, -1).late_double_frees, 1);
    space_destroy(s);
}

/* ---- sizes ---------------------------------------------------------------------------------------------------- */

/* Whatever an object was asked for with, as it was made and after each resizing: that size is one that it may have. */
static void every_size_asked_for_is_possible(void)
{
    heap *h = heap_create(0);
    static const size_t sizes[] = {0,    1,    16,    17,    100,    512,    513,    3000,   3072,    5000,   8192,
                                   8193, 9000, 20000, 65536, 100000, 131072, 131073, 200000, 1000000, 5000000};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    for (int i = 0; i < SIZES; i++)
        for (int j = 0; j < SIZES; j++) {
            char *object = heap_allocate(h, sizes[i]);
            CHECK(heap_may_have_size(h->space, object, sizes[i], 1));
            slabmalloc_status status;
            object = heap_reallocate(h, object, max_size(sizes[j], 1), &status);
            CHECK(heap_may_have_size(h->space, object, sizes[j], 1));
            CHECK_OK(heap_free(h, object));
            for (size_t align = 1; align <= 4 * MIB; align *= 4) {
                object = heap_allocate_aligned(h, sizes[i], align);
                CHECK(heap_may_have_size(h->space, object, sizes[i], align));
                CHECK_OK(heap_free(h, object));
            }
        }
    heap_destroy(h);
}

static void sizes_that_are_not_an_objects(void)
{
    heap *h = heap_create(4 * MIB);
    space *s = h->space;
    char *small = heap_allocate(h, 100), *large = heap_allocate(h, 3 * MIB),
         *aligned = heap_allocate_aligned(h, 100, 64);
    CHECK(heap_may_have_size(s, small, 112, 1) && !heap_may_have_size(s, small, 113, 1)); /* the class has 112 */
    CHECK(heap_may_have_size(s, small, 97, 1) && !heap_may_have_size(s, small, 40, 1));
    CHECK(!heap_may_have_size(s, small, SIZE_MAX, 1));
    CHECK(!heap_may_have_size(s, large, 3 * MIB + 1, 1) && !heap_may_have_size(s, large, MIB, 1));
    CHECK(heap_may_have_size(s, aligned, 100, 64) && !heap_may_have_size(s, aligned, 200, 64));
    CHECK(!heap_may_have_size(s, aligned, 100, 0) && !heap_may_have_size(s, aligned, 100, 24));
    CHECK(heap_may_have_size(s, aligned + 16, 100, 64)); /* no object begins there: another fault */
    CHECK_OK(heap_free(h, small));
    CHECK(heap_may_have_size(s, small, 5, 1));
    heap_destroy(h);
}

int main(void)
{
    RUN(in_a_slab);
    RUN(on_a_page_that_is_no_slab);
    RUN(in_a_large_object);
    RUN(where_a_large_object_was);
    RUN(freed_by_two_threads_at_once);
    RUN(every_size_asked_for_is_possible);
    RUN(sizes_that_are_not_an_objects);
    return check_finish();
}
