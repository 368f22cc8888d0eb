/* SPDX-License-Identifier: MIT
 *
 * Fault injection: a pager that fails at its k-th request for every k, pagers that return what they must not, and
 * memory that the system refuses. Nothing is lost, nothing leaks, and the zone goes on when memory is there again.
 */
#include "limits.h"

enum { OBJECTS = 400 };

static const size_t sizes[] = {8, 100, 256, 300, 5000};

/* A fixed piece of work on a zone; objects that it could not get are NULL. Returns how many it did not get. */
static size_t work(slabmalloc_zone *zone, void **objects)
{
    size_t missing = 0;
    for (size_t i = 0; i < OBJECTS; i++) {
        objects[i] = slabmalloc_zone_allocate(zone, sizes[i % 5], 8);
        missing += objects[i] == NULL;
        if (i % 7 == 6 && objects[i - 3] != NULL) {
            CHECK_OK(slabmalloc_zone_deallocate(zone, objects[i - 3], sizes[(i - 3) % 5], 8));
            objects[i - 3] = NULL;
        }
    }
    return missing;
}

static void release_all(slabmalloc_zone *zone, void **objects)
{
    for (size_t i = 0; i < OBJECTS; i++)
        if (objects[i] != NULL)
            CHECK_OK(slabmalloc_zone_deallocate(zone, objects[i], sizes[i % 5], 8));
}

/* fails: requests k ... k + length - 1 get NULL. */
static size_t run_with_fault(size_t k, size_t length)
{
    static void *objects[OBJECTS];
    test_pager *pager = test_pager_new();
    pager->fail_from = k;
    pager->fail_to = length > SIZE_MAX - k ? SIZE_MAX : k + length;
    slabmalloc_zone *zone = zone_on_pager(pager);
    size_t missing = work(zone, objects), requests = pager->requests;
    CHECK_EQUAL(missing > 0, k < requests);
    CHECK_CONSERVED(zone);
    pager->fail_to = 0; /* there is memory again */
    void *more = slabmalloc_zone_allocate(zone, 128, 8);
    CHECK(more != NULL);
    release_all(zone, objects);
    CHECK_OK(slabmalloc_zone_deallocate(zone, more, 128, 8));
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, 0);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_reclaim(zone, -1, 4096, SIZE_MAX, NULL, NULL);
    slabmalloc_zone_reclaim(zone, -1, SLABMALLOC_LARGE_PAGE_BYTES, SIZE_MAX, NULL, NULL);
    CHECK_EQUAL(pager->count, 0);
    slabmalloc_zone_destroy(zone);
    test_pager_end(pager);
    return requests;
}

static void the_kth_request_fails_for_every_k(void)
{
    size_t requests = run_with_fault(SIZE_MAX, 0);
    CHECK(requests >= 8);
    for (size_t k = 0; k < requests; k++) {
        run_with_fault(k, 1);
        run_with_fault(k, 3);
        run_with_fault(k, SIZE_MAX);
    }
}

static void allocate_many_fails_in_the_middle(void)
{
    enum { SIZE = 200, WANTED = 190 };
    size_t capacity = page_layout_of(208, 4096).capacity;
    for (size_t k = 0; k <= WANTED / capacity; k++) {
        void *objects[WANTED];
        test_pager *pager = test_pager_new();
        pager->fail_from = k;
        pager->fail_to = SIZE_MAX;
        slabmalloc_zone *zone = zone_on_pager(pager);
        CHECK_EQUAL(slabmalloc_zone_allocate_many(zone, SIZE, 8, objects, WANTED), k * capacity);
        CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, k * capacity);
        CHECK_CONSERVED(zone);
        CHECK_OK(slabmalloc_zone_deallocate_many(zone, objects, k * capacity, SIZE, 8, NULL));
        pager->fail_to = 0;
        CHECK_EQUAL(slabmalloc_zone_allocate_many(zone, SIZE, 8, objects, WANTED), WANTED);
        CHECK_CONSERVED(zone);
        slabmalloc_zone_destroy(zone);
        test_pager_end(pager);
    }
}

/* ---- pagers that return what they must not ---- */

typedef struct bad_pager {
    char *memory; /* 16 KiB, aligned */
    int what;     /* 0: misaligned; 1: the same page again; 2: a page of the zone's client */
    size_t out;   /* pages given and not taken back */
} bad_pager;

static void *bad_allocate(void *context, size_t page_bytes)
{
    bad_pager *pager = context;
    (void)page_bytes;
    pager->out++;
    return pager->what == 0 ? pager->memory + 64 : pager->what == 1 ? pager->memory : pager->memory + 8192;
}

static void bad_release(void *context, void *page, size_t page_bytes)
{
    bad_pager *pager = context;
    (void)page;
    CHECK_EQUAL(page_bytes, 4096);
    pager->out--;
}

static void junk_from_the_pager_is_refused(void)
{
    for (int what = 0; what < 3; what++) {
        bad_pager pager = {memory_new(16384, 16384), what, 0};
        slabmalloc_pager calls = {bad_allocate, bad_release, &pager};
        slabmalloc_zone_options options = slabmalloc_zone_options_default();
        options.pager = &calls;
        slabmalloc_zone *zone = zone_new(&options);
        CHECK_OK(slabmalloc_zone_refill(zone, 8, 8, pager.memory + 8192, 4096));
        size_t capacity = page_layout_of(128, 4096).capacity, expected = what == 1 ? capacity : 0;
        for (size_t i = 0; i < expected; i++)
            CHECK(slabmalloc_zone_allocate(zone, 128, 8) != NULL);
        for (int i = 0; i < 3; i++)
            CHECK_POINTER(slabmalloc_zone_allocate(zone, 128, 8), NULL);
        CHECK_EQUAL(slabmalloc_zone_stats(zone, slabmalloc_zone_class_of(zone, 128, 8)).live_objects, expected);
        CHECK_CONSERVED(zone);
        CHECK_EQUAL(pager.out, what == 1); /* what is refused goes back */
        slabmalloc_zone_destroy(zone);
        memory_free(pager.memory, 16384);
    }
}

/* ---- memory that the system refuses ---- */

static slabmalloc_zone *limited_zone;

/* Objects until the pager or the zone's bookkeeping gets no more; then everything is still in order. */
static int fill_until_refused(void)
{
    char *memory =
        mmap(NULL, (size_t)64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    (void)memory; /* most of what is left is taken: bookkeeping is refused soon */
    size_t count = 0;
    while (count < 1000000 && slabmalloc_zone_allocate(limited_zone, 256, 8) != NULL)
        count++;
    CHECK(count < 1000000);
    CHECK_EQUAL(slabmalloc_zone_stats(limited_zone, -1).live_objects, count);
    CHECK_CONSERVED(limited_zone);
    return 0;
}

static int create_until_refused(void)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    size_t count = 0;
    while (count < 100000 && slabmalloc_zone_create(&options) != NULL)
        count++;
    CHECK(count < 100000);
    return 0;
}

static int map_too_much(void)
{
    CHECK_POINTER(slabmalloc_os_map((size_t)1 << 40, 4096, false), NULL);
    slabmalloc_pager pager = slabmalloc_pager_system();
    CHECK_POINTER(pager.allocate(pager.context, SLABMALLOC_MAX_PAGE_BYTES), NULL);
    size_t count = 0;
    while (count < 4096 && pager.allocate(pager.context, (size_t)4096 << (count % 8)) != NULL)
        count++;
    return 0;
}

static void a_full_system_is_survived(void)
{
    if (!limits_are_kept())
        return;
    for (size_t bytes = (size_t)1 << 20; bytes <= (size_t)1 << 27; bytes *= 4) {
        slabmalloc_pager system = slabmalloc_pager_system();
        slabmalloc_zone_options options = slabmalloc_zone_options_default();
        options.pager = &system;
        limited_zone = zone_new(&options);
        CHECK_EQUAL(in_limited_child(bytes, fill_until_refused), 0);
        slabmalloc_zone_destroy(limited_zone);
        CHECK_EQUAL(in_limited_child(bytes, create_until_refused), 0);
    }
    CHECK_EQUAL(in_limited_child((size_t)1 << 26, map_too_much), 0);
}

int main(void)
{
    RUN(the_kth_request_fails_for_every_k);
    RUN(allocate_many_fails_in_the_middle);
    RUN(junk_from_the_pager_is_refused);
    RUN(a_full_system_is_survived);
    return check_finish();
}
