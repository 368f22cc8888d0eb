/* SPDX-License-Identifier: MIT
 *
 * The heap's medium and large objects: sizes, alignments, zeroed memory, errors, and the statistics' conservation after
 * each random step of all kinds.
 */
#include "space_fixture.h"

static void every_medium_size(void)
{
    enum { STEP = 331, COUNT = (HEAP_MEDIUM_BYTES - HEAP_SMALL_BYTES) / STEP };
    heap *h = heap_new(0);
    static char *objects[COUNT + 1];
    size_t live_bytes = 0;
    for (size_t i = 0; i <= COUNT; i++) {
        size_t bytes = i == COUNT ? HEAP_MEDIUM_BYTES : HEAP_SMALL_BYTES + 1 + i * STEP;
        char *object = objects[i] = heap_allocate(h, bytes);
        REQUIRE(object != NULL);
        CHECK_EQUAL((uintptr_t)object % HEAP_ALIGN_BYTES, 0);
        size_t usable = heap_usable_bytes(h->space, object);
        CHECK(usable >= bytes && (usable - bytes) * 4 <= usable);
        CHECK(heap_owns(h->space, object) && heap_owns(h->space, object + usable - 1));
        stamp(object, usable, i);
        live_bytes += usable;
    }
    CHECK_HEAP(h, COUNT + 1);
    space_stats stats = space_statistics(h->space);
    CHECK_EQUAL(stats.live_bytes, live_bytes);
    CHECK_EQUAL(stats.large_objects, 0);
    for (size_t i = 0; i <= COUNT; i++) {
        CHECK(is_stamped(objects[i], heap_usable_bytes(h->space, objects[i]), i));
        CHECK_OK(i % 2 == 0 ? heap_free(h, objects[i]) : heap_free_remote(h->space, objects[i]));
    }
    CHECK_HEAP(h, 0);
    heap_trim(h);
    CHECK_EQUAL(space_statistics(h->space).mapped_bytes, 0);
    heap_destroy(h);
}

static void large_objects_are_counted(void)
{
    heap *h = heap_new(RESERVE_LEAST);
    static const size_t sizes[] = {HEAP_MEDIUM_BYTES + 1, MIB, 5 * MIB + 3,
                                   100 * MIB}; /* the last: more than the reserve */
    char *objects[4];
    size_t large_bytes = 0;
    for (size_t i = 0; i < 4; i++) {
        objects[i] = heap_allocate(h, sizes[i]);
        REQUIRE(objects[i] != NULL);
        size_t usable = heap_usable_bytes(h->space, objects[i]);
        CHECK(usable >= sizes[i] && usable < sizes[i] + 8192);
        CHECK(heap_owns(h->space, objects[i]));
        objects[i][0] = objects[i][usable - 1] = 1;
        large_bytes += usable;
        space_stats stats = space_statistics(h->space);
        CHECK_EQUAL(stats.large_objects, i + 1);
        CHECK_EQUAL(stats.large_bytes, large_bytes);
        CHECK_EQUAL(stats.live_bytes, large_bytes);
        CHECK_HEAP(h, i + 1);
    }
    for (size_t i = 0; i < 4; i++) {
        CHECK_OK(i % 2 == 0 ? heap_free(h, objects[i]) : heap_free_remote(h->space, objects[i]));
        CHECK_EQUAL(heap_usable_bytes(h->space, objects[i]), 0);
        CHECK_HEAP(h, 3 - i);
    }
    CHECK(heap_owns(h->space, objects[3])); /* it rests */
    heap_trim(h);
    CHECK(!heap_owns(h->space, objects[3]));
    CHECK_EQUAL(space_statistics(h->space).mapped_bytes, 0);
    heap_destroy(h);
}

static void every_alignment(void)
{
    static const size_t sizes[] = {0,    1,     16,    48,     100,    1000,   4096,    5000,
                                   8192, 10000, 65536, 100000, 131072, 131073, 1000000, 3000000};
    enum { SIZES = sizeof sizes / sizeof *sizes, ALIGNS = 17 }; /* 16 ... 1 MiB */
    heap *h = heap_new(0);
    static char *objects[SIZES][ALIGNS];
    for (int round = 0; round < 2; round++) {
        for (size_t s = 0; s < SIZES; s++)
            for (size_t a = 0; a < ALIGNS; a++) {
                size_t align = (size_t)16 << a;
                char *object = objects[s][a] = heap_allocate_aligned(h, sizes[s], align);
                REQUIRE(object != NULL);
                CHECK_EQUAL((uintptr_t)object % align, 0);
                CHECK(heap_usable_bytes(h->space, object) >= sizes[s]);
                CHECK(heap_usable_bytes(h->space, object) > 0);
                stamp(object, heap_usable_bytes(h->space, object), s * 100 + a);
            }
        CHECK_HEAP(h, SIZES * ALIGNS);
        for (size_t s = 0; s < SIZES; s++)
            for (size_t a = 0; a < ALIGNS; a++) {
                char *object = objects[s][a];
                CHECK(is_stamped(object, heap_usable_bytes(h->space, object), s * 100 + a));
                CHECK_OK((s + a) % 3 == 0 ? heap_free_remote(h->space, object) : heap_free(h, object));
                CHECK(heap_free(h, object) != SLABMALLOC_OK);
            }
        CHECK_HEAP(h, 0);
        if (round == 0) /* the second time on memory that was purged */
            heap_trim(h);
    }
    for (size_t align = 1; align <= 16; align *= 2)
        CHECK_OK(heap_free(h, heap_allocate_aligned(h, 24, align)));
    CHECK_POINTER(heap_allocate_aligned(h, SIZE_MAX, 4096), NULL);
    CHECK_POINTER(heap_allocate_aligned(h, SIZE_MAX - 4000, 64), NULL);
    CHECK_POINTER(heap_allocate_aligned(h, 16, (size_t)1 << 62), NULL);
    CHECK_HEAP(h, 0);
    heap_destroy(h);
}

static void zeroed_after_dirty(void)
{
    static const size_t sizes[] = {1, 16, 40, 500, 4096, 8192, 8193, 20000, 65536, 131072, 131073, 400000, 2000000};
    enum { SIZES = sizeof sizes / sizeof *sizes, COUNT = 12 };
    heap *h = heap_new(0);
    char *objects[COUNT];
    for (size_t s = 0; s < SIZES; s++)
        for (int way = 0; way < 4; way++) {
            for (size_t i = 0; i < COUNT; i++) {
                REQUIRE((objects[i] = heap_allocate(h, sizes[s])) != NULL);
                memset(objects[i], 0xFF, heap_usable_bytes(h->space, objects[i]));
            }
            for (size_t i = 0; i < COUNT; i++)
                CHECK_OK(way == 1 ? heap_free_remote(h->space, objects[i]) : heap_free(h, objects[i]));
            if (way == 2)
                heap_trim(h);
            for (size_t i = 0; i < COUNT; i++) {
                REQUIRE((objects[i] = heap_allocate_zeroed(h, sizes[s])) != NULL);
                size_t usable = heap_usable_bytes(h->space, objects[i]);
                if (!CHECK(usable >= sizes[s] && all_zero(objects[i], sizes[s])))
                    printf("%zu bytes, way %d, object %zu\n", sizes[s], way, i);
                memset(objects[i], 0xFF, usable);
                if (way == 3) { /* one by one, so that the same memory comes again at once */
                    CHECK_OK(heap_free(h, objects[i]));
                    objects[i] = heap_allocate(h, sizes[s]);
                }
            }
            CHECK_HEAP(h, COUNT);
            for (size_t i = 0; i < COUNT; i++)
                CHECK_OK(heap_free(h, objects[i]));
        }
    CHECK_POINTER(heap_allocate_zeroed(h, SIZE_MAX), NULL);
    CHECK_HEAP(h, 0);
    heap_destroy(h);
}

/* Only for memory that nobody has touched, and not without end for that. */
static void zeroed_where_there_is_no_memory(void)
{
    static const size_t sizes[] = {HEAP_ASKED_BYTES, 20000, 100000, HEAP_MEDIUM_BYTES};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        heap *h = heap_new(0);
        size_t os = os_page_bytes(), usable = 0;
        char *object = heap_allocate_zeroed(h, sizes[k]);
        for (int i = 0; i < 2; i++) { /* of the second, the first having been touched */
            usable = heap_usable_bytes(h->space, object);
            char *inner = (char *)align_up((uintptr_t)object, os), *end = object + sizes[k];
            CHECK_EQUAL(os_resident_bytes(inner, (size_t)(end - inner) / os * os), 0);
            CHECK(all_zero(object, sizes[k]));
            memset(object, 0xFF, usable);
            object = heap_allocate_zeroed(h, sizes[k]);
        }
        CHECK_OK(heap_free(h, object));
        bool is_touched = false;
        for (int i = 0; !is_touched && i < 1000; i++) {
            object = heap_allocate_zeroed(h, sizes[k]);
            char *inner = (char *)align_up((uintptr_t)object, os);
            is_touched = os_resident_bytes(inner, os) != 0;
            CHECK_OK(heap_free(h, object));
        }
        CHECK(is_touched);
        CHECK_HEAP(h, 2);
        heap_destroy(h);
    }
}

static void wrong_frees_change_nothing(void)
{
    static const size_t sizes[] = {HEAP_SMALL_BYTES + 1, 50000, HEAP_MEDIUM_BYTES, HEAP_MEDIUM_BYTES + 1, 3 * MIB};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        heap *h = heap_new(RESERVE_LEAST);
        char *object = heap_allocate(h, sizes[s]), *second = heap_allocate(h, sizes[s]);
        REQUIRE(object != NULL && second != NULL);
        bool is_medium = sizes[s] <= HEAP_MEDIUM_BYTES;
        size_t usable = heap_usable_bytes(h->space, object);
        stamp(object, usable, s);
        static const size_t offsets[] = {1, 8, 16, 4096, 4097, 8192};
        for (size_t o = 0; o < sizeof offsets / sizeof *offsets; o++)
            for (int remote = 0; remote < 2; remote++) {
                char *wrong = object + offsets[o];
                slabmalloc_status status = remote ? heap_free_remote(h->space, wrong) : heap_free(h, wrong);
                CHECK(is_medium ? status == SLABMALLOC_FREE_INTERIOR : status != SLABMALLOC_OK);
                CHECK_EQUAL(heap_usable_bytes(h->space, wrong), 0);
                slabmalloc_status told = SLABMALLOC_OK;
                CHECK_POINTER(heap_reallocate(h, wrong, 100, &told), NULL);
                CHECK(told != SLABMALLOC_OK);
            }
        CHECK_HEAP(h, 2);
        CHECK_EQUAL(heap_usable_bytes(h->space, object), usable);
        CHECK(is_stamped(object, usable, s));
        for (int remote = 0; remote < 2; remote++) {
            CHECK_OK(remote ? heap_free_remote(h->space, object) : heap_free(h, object));
            for (int again = 0; again < 4; again++) {
                slabmalloc_status status = again % 2 ? heap_free_remote(h->space, object) : heap_free(h, object);
                CHECK(is_medium ? status == SLABMALLOC_FREE_DOUBLE : status != SLABMALLOC_OK);
                slabmalloc_status told = SLABMALLOC_OK;
                CHECK_POINTER(heap_reallocate(h, object, sizes[s], &told), NULL);
                CHECK_POINTER(heap_reallocate(h, object, 100, &told), NULL);
                CHECK(told != SLABMALLOC_OK);
            }
            CHECK_EQUAL(heap_usable_bytes(h->space, object), 0);
            CHECK_HEAP(h, 1);
            object = second;
            second = heap_allocate(h, sizes[s]);
        }
        CHECK_HEAP(h, 2);
        heap_destroy(h);
    }
}

static void random_steps_conserve_every_byte(void)
{
    enum { LIVE = 600 };
    static struct {
        char *object;
        size_t bytes;
        uint64_t tag;
    } live[LIVE];
    check_seed = 31;
    random_source source = random_from(check_seed);
    heap *h = heap_new(512 * (size_t)MIB);
    h->space->options.decay_ms = 1;
    size_t count = 0, steps = UNDER_TSAN || UNDER_ASAN ? 3000 : 12000, large = 0;
    for (uint64_t step = 0; step < steps; step++) {
        size_t what = random_below(&source, 100), i = count == 0 ? 0 : random_below(&source, count);
        if (count == 0 || (what < (step / 2000 % 2 == 0 ? 50u : 30u) && count < LIVE)) {
            size_t bytes = any_size(&source, 2 * MIB);
            large += bytes > HEAP_MEDIUM_BYTES;
            char *object = what % 4 == 0   ? heap_allocate_zeroed(h, bytes)
                           : what % 4 == 1 ? heap_allocate_aligned(h, bytes, (size_t)16 << random_below(&source, 14))
                                           : heap_allocate(h, bytes);
            REQUIRE(object != NULL);
            if (what % 4 == 0)
                CHECK(all_zero(object, bytes));
            stamp(object, bytes, step);
            live[count].object = object;
            live[count].bytes = bytes;
            live[count++].tag = step;
        } else if (what < 85) {
            CHECK(is_stamped(live[i].object, live[i].bytes, live[i].tag));
            CHECK_OK(what % 4 == 0 ? heap_free_remote(h->space, live[i].object) : heap_free(h, live[i].object));
            live[i] = live[--count];
        } else {
            size_t bytes = any_size(&source, 3 * MIB);
            slabmalloc_status status = SLABMALLOC_OK;
            char *object = heap_reallocate(h, live[i].object, bytes, &status);
            REQUIRE(object != NULL);
            CHECK_OK(status);
            CHECK(is_stamped(object, bytes < live[i].bytes ? bytes : live[i].bytes, live[i].tag));
            stamp(object, bytes, step);
            live[i].object = object;
            live[i].bytes = bytes;
            live[i].tag = step;
        }
        if (step % 50 == 0)
            heap_tick(h);
        if (step % 1500 == 0)
            heap_trim(h);
        if (step % 8 == 0)
            CHECK_HEAP(h, count);
    }
    CHECK(large > 10);
    while (count-- > 0) {
        CHECK(is_stamped(live[count].object, live[count].bytes, live[count].tag));
        CHECK_OK(heap_free(h, live[count].object));
    }
    heap_trim(h);
    CHECK_HEAP(h, 0);
    CHECK_EQUAL(space_statistics(h->space).mapped_bytes, 0);
    heap_destroy(h);
}

int main(void)
{
    RUN(every_medium_size);
    RUN(large_objects_are_counted);
    RUN(every_alignment);
    RUN(zeroed_after_dirty);
    RUN(zeroed_where_there_is_no_memory);
    RUN(wrong_frees_change_nothing);
    RUN(random_steps_conserve_every_byte);
    return check_finish();
}
