/* SPDX-License-Identifier: MIT
 *
 * Pages come and go: refill, reclaim, the pager, and what is left of a page that has left.
 */
#include "fixture.h"

enum { PAGES = 5, SIZE = 128, CAPACITY = 31 };

static uint64_t magic_of(const char *page, size_t page_bytes)
{
    uint64_t magic;
    memcpy(&magic, page + page_bytes - 32, sizeof magic);
    return magic;
}

static uint64_t slab_magic(void)
{
    uint64_t magic;
    memcpy(&magic, "slabmal1", sizeof magic);
    return magic;
}

static slabmalloc_zone *zone_with_pages(char **pages)
{
    slabmalloc_zone *zone = zone_default();
    for (int i = 0; i < PAGES; i++) {
        pages[i] = object_page();
        CHECK_OK(slabmalloc_zone_refill(zone, SIZE, 8, pages[i], 4096));
    }
    CHECK_EQUAL(page_layout_of(SIZE, 4096).capacity, CAPACITY);
    return zone;
}

static void end_zone(slabmalloc_zone *zone, char **pages)
{
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    for (int i = 0; i < PAGES; i++) {
        CHECK_EQUAL(magic_of(pages[i], 4096), 0); /* wiped */
        memory_free(pages[i], 4096);
    }
}

static void empty_pages_come_back_from_the_front(void)
{
    char *pages[PAGES];
    slabmalloc_zone *zone = zone_with_pages(pages);
    page_list back = {0};
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, 2, page_list_add, &back), 2);
    CHECK_POINTER(back.pages[0], pages[4]);
    CHECK_POINTER(back.pages[1], pages[3]);
    CHECK_EQUAL(back.bytes[0], 4096);
    CHECK_EQUAL(magic_of(pages[4], 4096), 0);
    CHECK_EQUAL(magic_of(pages[2], 4096), slab_magic());
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, 100, page_list_add, &back), 3);
    CHECK_POINTER(back.pages[4], pages[0]);
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, 100, page_list_add, &back), 0);
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).mapped_bytes, 0);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), NULL);
    /* They may come in again, for any class. */
    CHECK_OK(slabmalloc_zone_refill(zone, SIZE, 8, pages[1], 4096));
    CHECK_OK(slabmalloc_zone_refill(zone, 8, 8, pages[2], 4096));
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), pages[1]);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 8, 8), pages[2]);
    end_zone(zone, pages);
}

static void pages_with_live_objects_stay(void)
{
    char *pages[PAGES];
    slabmalloc_zone *zone = zone_with_pages(pages);
    page_list back = {0};
    for (int i = 0; i < PAGES * CAPACITY; i++)
        CHECK(slabmalloc_zone_allocate(zone, SIZE, 8) != NULL);
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, 100, page_list_add, &back), 0);
    for (int i = 0; i < CAPACITY; i++)
        CHECK_OK(slabmalloc_zone_deallocate(zone, pages[2] + SIZE * i, SIZE, 8));
    CHECK_OK(slabmalloc_zone_deallocate(zone, pages[3], SIZE, 8));
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, 100, page_list_add, &back), 1);
    CHECK_POINTER(back.pages[0], pages[2]);
    CHECK_STATUS(slabmalloc_zone_deallocate(zone, pages[2], SIZE, 8), FREE_FOREIGN);
    end_zone(zone, pages);
}

static void the_current_page_is_the_last_to_leave(void)
{
    char *pages[PAGES];
    slabmalloc_zone *zone = zone_with_pages(pages);
    page_list back = {0};
    void *object = slabmalloc_zone_allocate(zone, SIZE, 8); /* pages[4] is current */
    CHECK_POINTER(object, pages[4]);
    CHECK_OK(slabmalloc_zone_deallocate(zone, object, SIZE, 8));
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).empty_pages, PAGES);
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, 100, page_list_add, &back), PAGES);
    CHECK_POINTER(back.pages[0], pages[3]);
    CHECK_POINTER(back.pages[3], pages[0]);
    CHECK_POINTER(back.pages[4], pages[4]);
    CHECK_STATUS(slabmalloc_zone_deallocate(zone, object, SIZE, 8), FREE_FOREIGN);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), NULL);
    CHECK_OK(slabmalloc_zone_refill(zone, SIZE, 8, pages[0], 4096));
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), pages[0]);
    end_zone(zone, pages);
}

static void classes_give_back_in_order(void)
{
    slabmalloc_zone *zone = zone_default();
    static const size_t sizes[] = {1024, 8, 200, 131072, 16, 512};
    char *pages[6];
    for (int i = 0; i < 6; i++) {
        size_t bytes = sizes[i] <= 256 ? SLABMALLOC_OBJECT_PAGE_BYTES : SLABMALLOC_LARGE_PAGE_BYTES;
        CHECK_OK(slabmalloc_zone_refill(zone, sizes[i], 8, pages[i] = page_new(bytes), bytes));
    }
    page_list back = {0};
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, 2, page_list_add, &back), 2);
    CHECK_POINTER(back.pages[0], pages[1]); /* 8 */
    CHECK_POINTER(back.pages[1], pages[4]); /* 16 */
    /* A class of the other kind of page has nothing to give of this size. */
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, slabmalloc_zone_class_of(zone, 512, 8), 4096, 1, page_list_add, &back),
                0);
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 8192, 1, page_list_add, &back), 0);
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, 0, page_list_add, &back), 0);
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, slabmalloc_zone_class_of(zone, 1024, 8), SLABMALLOC_LARGE_PAGE_BYTES, 9,
                                        page_list_add, &back),
                1);
    CHECK_POINTER(back.pages[2], pages[0]);
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, SLABMALLOC_LARGE_PAGE_BYTES, 9, page_list_add, &back), 2);
    CHECK_POINTER(back.pages[3], pages[5]); /* 512 before 131072 */
    CHECK_POINTER(back.pages[4], pages[3]);
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, SIZE_MAX, page_list_add, &back), 1);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    for (int i = 0; i < 6; i++)
        memory_free(pages[i], sizes[i] <= 256 ? SLABMALLOC_OBJECT_PAGE_BYTES : SLABMALLOC_LARGE_PAGE_BYTES);
}

static void reclaim_collects_first(void)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.unowned = true; /* deallocate is a remote free */
    slabmalloc_zone *zone = zone_new(&options);
    char *pages[PAGES];
    for (int i = 0; i < PAGES; i++)
        CHECK_OK(slabmalloc_zone_refill(zone, SIZE, 8, pages[i] = object_page(), 4096));
    for (int i = 0; i < PAGES * CAPACITY; i++)
        CHECK(slabmalloc_zone_allocate(zone, SIZE, 8) != NULL);
    for (int p = 0; p < 3; p++)
        for (int i = 0; i < CAPACITY; i++)
            CHECK_OK(slabmalloc_zone_deallocate(zone, pages[p] + SIZE * i, SIZE, 8));
    page_list back = {0};
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, 100, page_list_add, &back), 3);
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).remote_frees, 3 * CAPACITY);
    end_zone(zone, pages);
}

static void the_pager_is_asked_when_dry(void)
{
    test_pager *pager = test_pager_new();
    slabmalloc_zone *zone = zone_on_pager(pager);
    void *objects[3 * CAPACITY];
    for (size_t i = 0; i < 3 * CAPACITY; i++) {
        objects[i] = slabmalloc_zone_allocate(zone, SIZE, 8);
        CHECK_EQUAL(pager->requests, i / CAPACITY + 1);
    }
    for (size_t i = 0; i < 3 * CAPACITY; i++)
        CHECK_OK(slabmalloc_zone_deallocate(zone, objects[i], SIZE, 8));
    CHECK_EQUAL(pager->count, 3); /* kept until they are asked for */
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, 1, NULL, NULL), 1);
    CHECK_EQUAL(pager->count, 2);
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, SIZE_MAX, NULL, NULL), 2);
    CHECK_EQUAL(pager->count, 0);
    CHECK_CONSERVED(zone);
    CHECK(slabmalloc_zone_allocate(zone, SIZE, 8) != NULL);
    CHECK(slabmalloc_zone_allocate(zone, 5000, 8) != NULL);
    CHECK_EQUAL(pager->count, 2);
    slabmalloc_class_stats stats = slabmalloc_zone_stats(zone, -1);
    CHECK_EQUAL(stats.pages_taken, 5);
    CHECK_EQUAL(stats.pages_returned, 3);
    CHECK_EQUAL(stats.mapped_bytes, 4096 + SLABMALLOC_LARGE_PAGE_BYTES);
    slabmalloc_zone_destroy(zone);
    test_pager_end(pager);
}

static void a_client_may_refill_beside_the_pager(void)
{
    test_pager *pager = test_pager_new();
    slabmalloc_zone *zone = zone_on_pager(pager);
    char *own = object_page();
    CHECK_OK(slabmalloc_zone_refill(zone, SIZE, 8, own, 4096));
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), own);
    CHECK_EQUAL(pager->requests, 0);
    CHECK_OK(slabmalloc_zone_deallocate(zone, own, SIZE, 8));
    page_list back = {0};
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, 9, page_list_add, &back), 1);
    CHECK_POINTER(back.pages[0], own);
    CHECK(slabmalloc_zone_allocate(zone, SIZE, 8) != NULL);
    slabmalloc_zone_destroy(zone);
    test_pager_end(pager);
    memory_free(own, 4096);
}

static void many_pages_come_and_go(void)
{
    enum { ROUNDS = 20, MANY = 600 };
    test_pager *pager = test_pager_new();
    slabmalloc_zone *zone = zone_on_pager(pager);
    size_t bookkeeping = 0;
    for (int round = 0; round < ROUNDS; round++) {
        static void *objects[MANY];
        for (int i = 0; i < MANY; i++) /* two objects a page */
            CHECK((objects[i] = slabmalloc_zone_allocate(zone, i % 2 ? 8 : 256, 8)) != NULL);
        for (int i = 0; i < MANY; i++)
            CHECK_OK(slabmalloc_zone_deallocate(zone, objects[i], i % 2 ? 8 : 256, 8));
        slabmalloc_zone_reclaim(zone, -1, 4096, SIZE_MAX, NULL, NULL);
        CHECK_EQUAL(pager->count, 0);
        CHECK_SOUND(zone);
        if (round == 1)
            bookkeeping = slabmalloc_zone_bookkeeping_bytes(zone);
    }
    CHECK_EQUAL(slabmalloc_zone_bookkeeping_bytes(zone), bookkeeping); /* it doesn't grow with what has been */
    slabmalloc_zone_destroy(zone);
    test_pager_end(pager);
}

int main(void)
{
    RUN(empty_pages_come_back_from_the_front);
    RUN(pages_with_live_objects_stay);
    RUN(the_current_page_is_the_last_to_leave);
    RUN(classes_give_back_in_order);
    RUN(reclaim_collects_first);
    RUN(the_pager_is_asked_when_dry);
    RUN(a_client_may_refill_beside_the_pager);
    RUN(many_pages_come_and_go);
    return check_finish();
}
