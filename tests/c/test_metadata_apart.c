/* SPDX-License-Identifier: MIT
 *
 * Meta-data apart: the core never writes a page, nor reads one. The pages of these tests can't be accessed at all.
 */
#include "fixture.h"

#include <pthread.h>

enum { COUNT = 4000 };

/* Pages without access: what the CPU can't touch. */
static void *closed_allocate(void *context, size_t page_bytes)
{
    void *page = test_pager_allocate(context, page_bytes);
    if (page != NULL)
        REQUIRE(mprotect(page, page_bytes, PROT_NONE) == 0);
    return page;
}

static slabmalloc_zone *zone_apart(test_pager *pager, bool random_start)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    slabmalloc_pager calls = {closed_allocate, test_pager_release, pager};
    options.pager = pager != NULL ? &calls : NULL;
    options.metadata_apart = true;
    options.random_start = random_start;
    options.seed = 9;
    return zone_new(&options);
}

static void *closed_page(size_t page_bytes)
{
    void *page = page_new(page_bytes);
    REQUIRE(mprotect(page, page_bytes, PROT_NONE) == 0);
    return page;
}

static void a_page_holds_no_less_than_with_metadata(void)
{
    slabmalloc_zone *zone = zone_apart(NULL, false);
    const slabmalloc_size_classes *classes = slabmalloc_zone_classes(zone);
    for (uint32_t i = 0; i < classes->count; i++) {
        size_t size = classes->sizes[i], page_bytes = class_page_bytes(classes, i);
        char *page = closed_page(page_bytes);
        size_t capacity = slabmalloc_sc_objects_per_page(slabmalloc_zone_sc(zone, (int)i));
        CHECK(capacity >= page_layout_of(size, page_bytes).capacity && capacity <= page_bytes / size);
        CHECK_OK(slabmalloc_zone_refill(zone, size, 8, page, page_bytes));
        for (size_t slot = 0; slot < capacity; slot++)
            if (!CHECK_POINTER(slabmalloc_zone_allocate(zone, size, 8), page + slot * size))
                break;
        CHECK_POINTER(slabmalloc_zone_allocate(zone, size, 8), NULL);
        CHECK_EQUAL(slabmalloc_zone_stats(zone, (int)i).metadata_bytes, 0);
        CHECK_CONSERVED(zone);
        for (size_t slot = 0; slot < capacity; slot++)
            CHECK_OK(slabmalloc_zone_deallocate(zone, page + slot * size, size, 8));
        CHECK_STATUS(slabmalloc_zone_deallocate(zone, page, size, 8), FREE_DOUBLE);
        page_list back = {0};
        CHECK_EQUAL(slabmalloc_zone_reclaim(zone, (int)i, page_bytes, 1, page_list_add, &back), 1);
        CHECK_POINTER(back.pages[0], page);
        memory_free(page, page_bytes);
    }
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
}

typedef struct remote_work {
    slabmalloc_zone *zone;
    void **objects;
    const size_t *sizes;
    size_t from, to;
} remote_work;

static void *free_remotely(void *context)
{
    remote_work *work = context;
    for (size_t i = work->from; i < work->to; i++)
        CHECK_OK(slabmalloc_zone_deallocate(work->zone, work->objects[i], work->sizes[i], 8));
    return NULL;
}

static void everything_works_on_closed_pages(void)
{
    for (int random_start = 0; random_start < 2; random_start++) {
        check_seed = 21;
        random_source source = random_from(check_seed);
        test_pager *pager = test_pager_new();
        slabmalloc_zone *zone = zone_apart(pager, random_start != 0);
        static void *objects[COUNT];
        static size_t sizes[COUNT];
        for (size_t i = 0; i < COUNT; i++) {
            sizes[i] = 1 + random_below(&source, random_below(&source, 30) == 0 ? 9000 : 300);
            CHECK((objects[i] = slabmalloc_zone_allocate(zone, sizes[i], 8)) != NULL);
        }
        CHECK_CONSERVED(zone);
        for (size_t i = 0; i < COUNT / 3; i++) {
            CHECK(slabmalloc_zone_inspect(zone, objects[i]).is_live);
            CHECK_OK(slabmalloc_zone_deallocate(zone, objects[i], sizes[i], 8));
            CHECK_STATUS(slabmalloc_zone_deallocate(zone, objects[i], sizes[i], 8), FREE_DOUBLE);
            CHECK_STATUS(slabmalloc_zone_deallocate(zone, (char *)objects[i] + 1, sizes[i], 8), FREE_INTERIOR);
        }
        remote_work work = {zone, objects, sizes, COUNT / 3, COUNT};
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, free_remotely, &work) == 0);
        pthread_join(thread, NULL);
        CHECK_EQUAL(slabmalloc_zone_collect(zone), COUNT - COUNT / 3);
        CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, 0);
        CHECK_CONSERVED(zone);
        static void *many[500];
        CHECK_EQUAL(slabmalloc_zone_allocate_many(zone, 48, 16, many, 500), 500);
        many[499] = many[0];
        CHECK_STATUS(slabmalloc_zone_deallocate_many(zone, many, 500, 48, 16, NULL), FREE_DOUBLE);
        CHECK_OK(slabmalloc_zone_deallocate_many(zone, many, 499, 48, 16, NULL));
        slabmalloc_zone_reclaim(zone, -1, 4096, SIZE_MAX, NULL, NULL);
        CHECK_CONSERVED(zone);
        for (int i = 0; i < 10; i++)
            CHECK(slabmalloc_zone_allocate(zone, 600, 8) != NULL);
        slabmalloc_zone_destroy(zone);
        test_pager_end(pager);
    }
}

static void note_live(void *context, void *page, size_t page_bytes, size_t live)
{
    (void)page;
    (void)page_bytes;
    *(size_t *)context += live;
}

/* Such a page carries nothing that could be restored, and nothing that stands in the way of another zone. */
static void a_page_carries_nothing(void)
{
    char *page = object_page();
    slabmalloc_zone *zone = zone_apart(NULL, false);
    memset(page, 0x5A, 4096);
    CHECK_OK(slabmalloc_zone_refill(zone, 64, 8, page, 4096));
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 64, 8), page);
    CHECK_STATUS(slabmalloc_zone_refill(zone, 64, 8, page, 4096), PAGE_IN_USE);
    size_t live = 0;
    slabmalloc_zone_detach(zone, note_live, &live);
    CHECK_EQUAL(live, 1);
    for (size_t i = 0; i < 4096; i++)
        CHECK_EQUAL(page[i], 0x5A);
    zone = zone_default();
    CHECK_STATUS(slabmalloc_zone_restore(zone, page, 4096), PAGE_UNREADABLE);
    CHECK_OK(slabmalloc_zone_refill(zone, 64, 8, page, 4096));
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    memory_free(page, 4096);
}

static void sizes_that_fill_the_page(void)
{
    /* Without meta-data a power of two divides its page. */
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.metadata_apart = true;
    options.classes = classes_one(1024, 65536);
    slabmalloc_zone *zone = zone_new(&options);
    CHECK_EQUAL(slabmalloc_sc_objects_per_page(slabmalloc_zone_sc(zone, 0)), 64);
    char *page = closed_page(65536);
    CHECK_OK(slabmalloc_zone_refill(zone, 1024, 1024, page, 65536));
    for (size_t i = 0; i < 64; i++)
        CHECK_POINTER(slabmalloc_zone_allocate(zone, 1024, 1024), page + 1024 * i);
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_bytes, 65536);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    memory_free(page, 65536);
}

int main(void)
{
    RUN(a_page_holds_no_less_than_with_metadata);
    RUN(everything_works_on_closed_pages);
    RUN(a_page_carries_nothing);
    RUN(sizes_that_fill_the_page);
    return check_finish();
}
