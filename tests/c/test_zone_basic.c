/* SPDX-License-Identifier: MIT
 *
 * A zone in plain use: where objects lie, that they overlap nothing, and which slab and slot is chosen.
 */
#include "fixture.h"

static void an_empty_zone_does_nothing(void)
{
    slabmalloc_zone *zone = zone_default();
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 8, 8), NULL);
    CHECK_EQUAL(slabmalloc_zone_collect(zone), 0);
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, -1, 4096, 10, NULL, NULL), 0);
    CHECK_EQUAL(slabmalloc_zone_classes(zone)->count, slabmalloc_size_classes_default().count);
    CHECK(slabmalloc_zone_bookkeeping_bytes(zone) > 0);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);

    zone = zone_default();
    slabmalloc_zone_detach(zone, NULL, NULL);
}

/* Every class of the table: a page holds exactly what the layout of a page says, lowest slot first, in steps of the
 * size. */
static void check_one_page(slabmalloc_zone *zone, uint32_t index)
{
    const slabmalloc_size_classes *classes = slabmalloc_zone_classes(zone);
    size_t size = classes->sizes[index], page_bytes = class_page_bytes(classes, index);
    size_t capacity = page_layout_of(size, page_bytes).capacity;
    char *page = page_new(page_bytes);
    CHECK_EQUAL(slabmalloc_sc_objects_per_page(slabmalloc_zone_sc(zone, (int)index)), capacity);
    CHECK_OK(slabmalloc_zone_refill(zone, size, 1, page, page_bytes));
    for (size_t i = 0; i < capacity; i++)
        CHECK_POINTER(slabmalloc_zone_allocate(zone, size, 1), page + i * size);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, size, 1), NULL);
    slabmalloc_class_stats stats = slabmalloc_zone_stats(zone, (int)index);
    CHECK_EQUAL(stats.full_pages, 1);
    CHECK_EQUAL(stats.live_objects, capacity);
    CHECK_CONSERVED(zone);
    for (size_t i = 0; i < capacity; i++)
        CHECK_OK(slabmalloc_zone_deallocate(zone, page + i * size, size, 1));
    stats = slabmalloc_zone_stats(zone, (int)index);
    CHECK_EQUAL(stats.empty_pages, 1);
    CHECK_EQUAL(stats.live_objects, 0);
    CHECK_CONSERVED(zone);
    page_list back = {0};
    CHECK_EQUAL(slabmalloc_zone_reclaim(zone, (int)index, page_bytes, 1, page_list_add, &back), 1);
    CHECK_POINTER(back.pages[0], page);
    memory_free(page, page_bytes);
}

static void a_page_is_filled_from_its_lowest_slot(void)
{
    slabmalloc_zone *zone = zone_default();
    for (uint32_t i = 0; i < slabmalloc_zone_classes(zone)->count; i++)
        check_one_page(zone, i);
    slabmalloc_zone_destroy(zone);
}

static void the_lowest_free_slot_comes_first(void)
{
    slabmalloc_zone *zone = zone_default();
    char *page = object_page();
    CHECK_OK(slabmalloc_zone_refill(zone, 16, 16, page, 4096));
    size_t capacity = page_layout_of(16, 4096).capacity;
    for (size_t i = 0; i < capacity; i++)
        CHECK(slabmalloc_zone_allocate(zone, 16, 16) != NULL);
    static const size_t freed[] = {200, 3, 64, 63, 127, 128, 0, 190};
    static const size_t sorted[] = {0, 3, 63, 64, 127, 128, 190, 200};
    for (size_t i = 0; i < 8; i++)
        CHECK_OK(slabmalloc_zone_deallocate(zone, page + 16 * freed[i], 16, 16));
    for (size_t i = 0; i < 8; i++)
        CHECK_POINTER(slabmalloc_zone_allocate(zone, 16, 16), page + 16 * sorted[i]);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 16, 16), NULL);
    /* A free below the next slot, and one above it, while there is a next one. */
    CHECK_OK(slabmalloc_zone_deallocate(zone, page + 16 * 100, 16, 16));
    CHECK_OK(slabmalloc_zone_deallocate(zone, page + 16 * 150, 16, 16));
    CHECK_OK(slabmalloc_zone_deallocate(zone, page + 16 * 50, 16, 16));
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 16, 16), page + 16 * 50);
    CHECK_OK(slabmalloc_zone_deallocate(zone, page + 16 * 149, 16, 16));
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 16, 16), page + 16 * 100);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 16, 16), page + 16 * 149);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 16, 16), page + 16 * 150);
    slabmalloc_zone_destroy(zone);
    memory_free(page, 4096);
}

enum { SIZE = 64, PAGES = 6 };

/* PAGES full pages of SIZE-byte objects, oldest first; the last one is current. */
static slabmalloc_zone *full_pages(char **pages, size_t *capacity)
{
    slabmalloc_zone *zone = zone_default();
    *capacity = page_layout_of(SIZE, 4096).capacity;
    for (size_t p = 0; p < PAGES; p++) {
        pages[p] = object_page();
        CHECK_OK(slabmalloc_zone_refill(zone, SIZE, 8, pages[p], 4096));
        for (size_t i = 0; i < *capacity; i++)
            CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), pages[p] + i * SIZE);
    }
    return zone;
}

static void free_slots(slabmalloc_zone *zone, char *page, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        CHECK_OK(slabmalloc_zone_deallocate(zone, page + i * SIZE, SIZE, 8));
}

static void end_pages(slabmalloc_zone *zone, char **pages)
{
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    for (size_t p = 0; p < PAGES; p++)
        memory_free(pages[p], 4096);
}

static void the_fullest_partial_slab_comes_first(void)
{
    char *pages[PAGES];
    size_t capacity;
    slabmalloc_zone *zone = full_pages(pages, &capacity);
    free_slots(zone, pages[0], 0, capacity);     /* empty */
    free_slots(zone, pages[1], 0, capacity / 2); /* second quarter */
    free_slots(zone, pages[2], 5, 6);            /* fullest quarter */
    free_slots(zone, pages[3], 0, capacity - 1); /* sparsest quarter */
    free_slots(zone, pages[4], 7, 8);            /* the same, behind pages[2] */
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), pages[2] + 5 * SIZE);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), pages[4] + 7 * SIZE);
    for (size_t i = 0; i < capacity / 2; i++)
        CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), pages[1] + i * SIZE);
    for (size_t i = 0; i < capacity - 1; i++)
        CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), pages[3] + i * SIZE);
    for (size_t i = 0; i < capacity; i++)
        CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), pages[0] + i * SIZE);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), NULL);
    end_pages(zone, pages);
}

static void a_band_change_moves_to_the_back(void)
{
    char *pages[PAGES];
    size_t capacity;
    slabmalloc_zone *zone = full_pages(pages, &capacity);
    free_slots(zone, pages[0], 0, 1);
    free_slots(zone, pages[1], 0, 1);
    free_slots(zone, pages[0], 1, 2); /* same band: stays in front of pages[1] */
    CHECK(2 <= capacity / 4);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), pages[0]);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), pages[0] + SIZE);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), pages[1]);
    end_pages(zone, pages);
}

static void the_current_slab_stays(void)
{
    char *pages[PAGES];
    size_t capacity;
    slabmalloc_zone *zone = full_pages(pages, &capacity);
    char *current = pages[PAGES - 1];
    /* Out of memory; a free on the current slab makes it usable again. */
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), NULL);
    free_slots(zone, current, 9, 10);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), current + 9 * SIZE);
    /* Even wholly free it stays current, whatever is fuller. */
    free_slots(zone, current, 0, capacity);
    free_slots(zone, pages[0], 0, 1);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), current);
    /* Once it is exhausted and left, it comes back by the lists like any other. */
    for (size_t i = 1; i < capacity; i++)
        CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), current + i * SIZE);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), pages[0]);
    free_slots(zone, current, 30, 31);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, SIZE, 8), current + 30 * SIZE);
    end_pages(zone, pages);
}

static void the_last_refilled_page_is_used_first(void)
{
    slabmalloc_zone *zone = zone_default();
    char *pages[3];
    for (int i = 0; i < 3; i++)
        CHECK_OK(slabmalloc_zone_refill(zone, 2048, 8, pages[i] = large_page(), SLABMALLOC_LARGE_PAGE_BYTES));
    size_t capacity = page_layout_of(2048, SLABMALLOC_LARGE_PAGE_BYTES).capacity;
    for (int p = 2; p >= 0; p--)
        for (size_t i = 0; i < capacity; i++)
            CHECK_POINTER(slabmalloc_zone_allocate(zone, 2048, 8), pages[p] + 2048 * i);
    slabmalloc_zone_destroy(zone);
    for (int i = 0; i < 3; i++)
        memory_free(pages[i], SLABMALLOC_LARGE_PAGE_BYTES);
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return (x > y) - (x < y);
}

/* Objects of all sizes at once: none overlaps another, each lies in a page of the pager, and what is written stays. */
static void objects_overlap_nothing(void)
{
    enum { COUNT = 20000 };
    static struct {
        uintptr_t begin;
        size_t bytes;
    } objects[COUNT];
    check_seed = 11;
    random_source source = random_from(check_seed);
    test_pager *pager = test_pager_new();
    slabmalloc_zone *zone = zone_on_pager(pager);
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = 1 + random_below(&source, random_below(&source, 50) == 0 ? 20000 : 600);
        size_t align = (size_t)1 << random_below(&source, 7);
        char *object = slabmalloc_zone_allocate(zone, size, align);
        REQUIRE(object != NULL);
        CHECK_EQUAL((uintptr_t)object % align, 0);
        memset(object, (int)(i % 251), size);
        objects[i].begin = (uintptr_t)object;
        objects[i].bytes = size;
        bool is_inside = false;
        for (size_t p = 0; p < pager->count && !is_inside; p++)
            is_inside =
                object >= (char *)pager->pages[p] && object + size <= (char *)pager->pages[p] + pager->bytes[p] - 48;
        CHECK(is_inside);
    }
    CHECK_CONSERVED(zone);
    for (size_t i = 0; i < COUNT; i++) {
        const unsigned char *object = (const unsigned char *)objects[i].begin;
        CHECK(object[0] == i % 251 && object[objects[i].bytes - 1] == i % 251 &&
              object[objects[i].bytes / 2] == i % 251);
    }
    qsort(objects, COUNT, sizeof *objects, by_address);
    for (size_t i = 1; i < COUNT; i++)
        CHECK(objects[i - 1].begin + objects[i - 1].bytes <= objects[i].begin);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    test_pager_end(pager);
}

static void every_alignment_up_to_the_page_is_kept(void)
{
    test_pager *pager = test_pager_new();
    slabmalloc_zone *zone = zone_on_pager(pager);
    for (size_t align = 1; align <= SLABMALLOC_LARGE_PAGE_BYTES; align *= 2) {
        for (size_t size = 1; size <= SLABMALLOC_MAX_ALLOC_BYTES; size = size * 3 / 2 + 1) {
            int index = slabmalloc_zone_class_of(zone, size, align);
            void *objects[5];
            for (int i = 0; i < 5; i++) {
                objects[i] = slabmalloc_zone_allocate(zone, size, align);
                CHECK_EQUAL(objects[i] != NULL, index >= 0);
                CHECK_EQUAL((uintptr_t)objects[i] % align, 0);
            }
            for (int i = 0; i < 5 && index >= 0; i++)
                CHECK_OK(slabmalloc_zone_deallocate(zone, objects[i], size, align));
        }
    }
    /* An object as large as its page's half, aligned to it. */
    const uint32_t sizes[] = {1u << 20};
    slabmalloc_zone_destroy(zone);
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    slabmalloc_pager calls = test_pager_of(pager);
    options.pager = &calls;
    options.classes = classes_of(4096, 1u << 21, 256, sizes, 1);
    zone = zone_new(&options);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL((uintptr_t)slabmalloc_zone_allocate(zone, 1, 1u << 20) % (1u << 20), 0);
    slabmalloc_zone_destroy(zone);
    test_pager_end(pager);
}

static void a_class_is_used_through_its_sc(void)
{
    test_pager *pager = test_pager_new();
    slabmalloc_zone *zone = zone_on_pager(pager);
    slabmalloc_sc *sc = slabmalloc_zone_sc(zone, slabmalloc_zone_class_of(zone, 48, 8));
    char *a = slabmalloc_sc_allocate(sc), *b = slabmalloc_zone_allocate(zone, 48, 8), *c = slabmalloc_sc_allocate(sc);
    CHECK_POINTER(b, a + 48);
    CHECK_POINTER(c, b + 48);
    CHECK_OK(slabmalloc_sc_deallocate(sc, b));
    CHECK_STATUS(slabmalloc_sc_deallocate(sc, b), FREE_DOUBLE);
    CHECK_OK(slabmalloc_sc_deallocate_owned(sc, a));
    CHECK_STATUS(slabmalloc_sc_deallocate_owned(sc, a), FREE_DOUBLE);
    CHECK_OK(slabmalloc_zone_deallocate_owned(zone, c, 48, 8));
    CHECK_STATUS(slabmalloc_zone_deallocate_owned(zone, c, 48, 8), FREE_DOUBLE);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    test_pager_end(pager);
}

static void inspect_tells_what_is_there(void)
{
    slabmalloc_zone *zone = zone_default();
    char *page = object_page(), *foreign = object_page();
    page_layout layout = page_layout_of(96, 4096);
    CHECK_OK(slabmalloc_zone_refill(zone, 96, 8, page, 4096));
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 96, 8), page);
    slabmalloc_slot_info info = slabmalloc_zone_inspect(zone, page + 5);
    CHECK_POINTER(info.page, page);
    CHECK_POINTER(info.object, page);
    CHECK_EQUAL(info.page_bytes, 4096);
    CHECK_EQUAL(info.object_bytes, 96);
    CHECK_EQUAL(info.capacity, layout.capacity);
    CHECK_EQUAL(info.slot_index, 0);
    CHECK(info.is_live);
    info = slabmalloc_zone_inspect(zone, page + 96 * 3 + 95);
    CHECK_POINTER(info.object, page + 96 * 3);
    CHECK_EQUAL(info.slot_index, 3);
    CHECK(!info.is_live);
    info = slabmalloc_zone_inspect(zone, page + 4095);
    CHECK_POINTER(info.page, page);
    CHECK_EQUAL(info.slot_index, layout.capacity);
    CHECK(!info.is_live);
    const void *nowhere[] = {foreign, NULL, page + 4096, page - 1, (const void *)UINTPTR_MAX, &info};
    for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; i++) {
        info = slabmalloc_zone_inspect(zone, nowhere[i]);
        CHECK(info.page == NULL && info.page_bytes == 0 && info.object_bytes == 0 && info.slot_index == 0 &&
              info.capacity == 0 && info.object == NULL && !info.is_live);
    }
    slabmalloc_zone_destroy(zone);
    memory_free(page, 4096);
    memory_free(foreign, 4096);
}

static void an_unowned_zone_frees_remotely(void)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.unowned = true;
    slabmalloc_zone *zone = zone_new(&options);
    char *page = object_page();
    CHECK_OK(slabmalloc_zone_refill(zone, 256, 8, page, 4096));
    size_t capacity = page_layout_of(256, 4096).capacity;
    for (size_t i = 0; i < capacity; i++)
        CHECK_POINTER(slabmalloc_zone_allocate(zone, 256, 8), page + 256 * i);
    CHECK_OK(slabmalloc_zone_deallocate(zone, page + 512, 256, 8));
    CHECK_STATUS(slabmalloc_zone_deallocate(zone, page + 512, 256, 8), FREE_DOUBLE);
    CHECK_STATUS(slabmalloc_zone_deallocate_owned(zone, page + 512, 256, 8), FREE_DOUBLE);
    CHECK(!slabmalloc_zone_inspect(zone, page + 512).is_live);
    CHECK_EQUAL(slabmalloc_zone_collect(zone), 1);
    CHECK_EQUAL(slabmalloc_zone_collect(zone), 0);
    CHECK_STATUS(slabmalloc_zone_deallocate(zone, page + 512, 256, 8), FREE_DOUBLE);
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).remote_frees, 1);
    /* Collected on demand: dry, then not. */
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 256, 8), page + 512);
    CHECK_OK(slabmalloc_zone_deallocate(zone, page + 1024, 256, 8));
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 256, 8), page + 1024);
    /* Adopted, the same call frees at once. */
    slabmalloc_zone_adopt(zone);
    CHECK_OK(slabmalloc_zone_deallocate(zone, page, 256, 8));
    CHECK_EQUAL(slabmalloc_zone_collect(zone), 0);
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).remote_frees, 2);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    memory_free(page, 4096);
}

static void zones_do_not_know_each_other(void)
{
    test_pager *pager = test_pager_new();
    slabmalloc_zone *a = zone_on_pager(pager), *b = zone_on_pager(pager);
    void *x = slabmalloc_zone_allocate(a, 32, 8), *y = slabmalloc_zone_allocate(b, 32, 8);
    CHECK_STATUS(slabmalloc_zone_deallocate(b, x, 32, 8), FREE_FOREIGN);
    CHECK_STATUS(slabmalloc_zone_deallocate(a, y, 32, 8), FREE_FOREIGN);
    CHECK_OK(slabmalloc_zone_deallocate(a, x, 32, 8));
    slabmalloc_zone_destroy(a);
    CHECK_OK(slabmalloc_zone_deallocate(b, y, 32, 8));
    CHECK_CONSERVED(b);
    slabmalloc_zone_destroy(b);
    test_pager_end(pager);
}

static void the_system_pager_serves(void)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    slabmalloc_pager pager = slabmalloc_pager_system();
    options.pager = &pager;
    slabmalloc_zone *zone = zone_new(&options);
    for (int round = 0; round < 3; round++) {
        for (size_t size = 1; size <= SLABMALLOC_MAX_ALLOC_BYTES; size += size / 3 + 1)
            for (int i = 0; i < 40; i++)
                memset(slabmalloc_zone_allocate(zone, size, 8), round, size);
        CHECK_CONSERVED(zone);
        slabmalloc_zone_destroy(zone);
        zone = zone_new(&options);
    }
    slabmalloc_zone_destroy(zone);
    /* The pager on its own: aligned, writable, zeroed or not. */
    for (size_t bytes = SLABMALLOC_MIN_PAGE_BYTES; bytes <= (size_t)64 << 20; bytes *= 2) {
        char *pages[3];
        for (int i = 0; i < 3; i++) {
            pages[i] = pager.allocate(pager.context, bytes);
            REQUIRE(pages[i] != NULL);
            CHECK_EQUAL((uintptr_t)pages[i] % bytes, 0);
            pages[i][0] = pages[i][bytes - 1] = (char)i;
        }
        for (int i = 0; i < 3; i++) {
            CHECK(pages[i][0] == i && pages[i][bytes - 1] == i);
            pager.release(pager.context, pages[i], bytes);
        }
    }
}

int main(void)
{
    RUN(an_empty_zone_does_nothing);
    RUN(a_page_is_filled_from_its_lowest_slot);
    RUN(the_lowest_free_slot_comes_first);
    RUN(the_fullest_partial_slab_comes_first);
    RUN(a_band_change_moves_to_the_back);
    RUN(the_current_slab_stays);
    RUN(the_last_refilled_page_is_used_first);
    RUN(objects_overlap_nothing);
    RUN(every_alignment_up_to_the_page_is_kept);
    RUN(a_class_is_used_through_its_sc);
    RUN(inspect_tells_what_is_there);
    RUN(an_unowned_zone_frees_remotely);
    RUN(zones_do_not_know_each_other);
    RUN(the_system_pager_serves);
    return check_finish();
}
