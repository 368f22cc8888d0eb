/* SPDX-License-Identifier: MIT
 *
 * Pages of every size: how many objects they hold, what their meta-data costs, and that the largest one works.
 */
#include "fixture.h"

static size_t objects_per_page(uint32_t object_bytes, uint32_t page_bytes)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.classes = classes_one(object_bytes, page_bytes);
    slabmalloc_zone *zone = slabmalloc_zone_create(&options);
    if (zone == NULL)
        return 0;
    size_t count = slabmalloc_sc_objects_per_page(slabmalloc_zone_sc(zone, 0));
    slabmalloc_zone_destroy(zone);
    return count;
}

static void a_page_holds_as_much_as_fits(void)
{
    check_seed = 5;
    random_source source = random_from(check_seed);
    for (uint32_t page = SLABMALLOC_MIN_PAGE_BYTES; page <= SLABMALLOC_MAX_PAGE_BYTES && page != 0; page *= 2) {
        for (int i = 0; i < 44; i++) {
            uint32_t size = i < 40 ? 8 * (uint32_t)(i + 1) : 8 * (uint32_t)(1 + random_below(&source, page / 8));
            size_t expected = page_layout_of(size, page).capacity;
            CHECK_EQUAL(objects_per_page(size, page), expected);
            /* The definition is monotone: one more does not fit. */
            CHECK(expected == 0 || layout_fits(expected, size, page));
            CHECK(!layout_fits(expected + 1, size, page));
        }
    }
}

static void a_large_page_of_512_holds_4080(void)
{
    CHECK(objects_per_page(512, SLABMALLOC_LARGE_PAGE_BYTES) >= 4080);
    CHECK_EQUAL(objects_per_page(512, SLABMALLOC_LARGE_PAGE_BYTES), 4093);
}

static void metadata_is_at_most_a_fiftieth(void)
{
    slabmalloc_size_classes tables[] = {slabmalloc_size_classes_default(), slabmalloc_size_classes_powers_of_two()};
    for (int t = 0; t < 2; t++) {
        for (uint32_t i = 0; i < tables[t].count; i++) {
            uint32_t size = tables[t].sizes[i];
            if (size < 64)
                continue;
            for (uint32_t page = SLABMALLOC_MIN_PAGE_BYTES; page <= SLABMALLOC_MAX_PAGE_BYTES && page != 0; page *= 2) {
                page_layout layout = page_layout_of(size, page);
                if (layout.capacity == 0)
                    continue;
                CHECK_EQUAL(objects_per_page(size, page), layout.capacity);
                CHECK((page - layout.local) * 50 <= page);
            }
        }
    }
}

/* The statistics of one page in use agree with the definition. */
static void statistics_tell_the_layout(void)
{
    slabmalloc_zone *zone = zone_default();
    const slabmalloc_size_classes *classes = slabmalloc_zone_classes(zone);
    for (uint32_t i = 0; i < classes->count; i++) {
        size_t size = classes->sizes[i], page_bytes = class_page_bytes(classes, i);
        char *page = page_new(page_bytes);
        CHECK_OK(slabmalloc_zone_refill(zone, size, 8, page, page_bytes));
        CHECK_POINTER(slabmalloc_zone_allocate(zone, size, 8), page);
        page_layout layout = page_layout_of(size, page_bytes);
        slabmalloc_class_stats stats = slabmalloc_zone_stats(zone, (int)i);
        CHECK_EQUAL(stats.capacity, layout.capacity);
        CHECK_EQUAL(stats.metadata_bytes, page_bytes - layout.local);
        CHECK_EQUAL(stats.tail_bytes, layout.local - layout.capacity * size);
        CHECK_EQUAL(stats.free_bytes, (layout.capacity - 1) * size);
        CHECK_CONSERVED(zone);
        CHECK_OK(slabmalloc_zone_deallocate(zone, page, size, 8));
        page_list back = {0};
        CHECK_EQUAL(slabmalloc_zone_reclaim(zone, (int)i, page_bytes, 1, page_list_add, &back), 1);
        memory_free(page, page_bytes);
    }
    slabmalloc_zone_destroy(zone);
}

/* A page of each size, first and last slot and the boundaries of bitmap words in use. */
static void check_page_size(uint32_t page_bytes, uint32_t object_bytes)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.classes = classes_one(object_bytes, page_bytes);
    slabmalloc_zone *zone = zone_new(&options);
    char *page = page_new(page_bytes);
    size_t capacity = page_layout_of(object_bytes, page_bytes).capacity;
    CHECK_OK(slabmalloc_zone_refill(zone, object_bytes, 1, page, page_bytes));
    CHECK_STATUS(slabmalloc_zone_refill(zone, object_bytes, 1, page, page_bytes), PAGE_IN_USE);
    size_t limit = capacity < 300000 ? capacity : 300000;
    for (size_t i = 0; i < limit; i++)
        if (!CHECK_POINTER(slabmalloc_zone_allocate(zone, object_bytes, 1), page + i * object_bytes))
            break;
    if (limit == capacity) {
        CHECK_POINTER(slabmalloc_zone_allocate(zone, object_bytes, 1), NULL);
        CHECK_STATUS(slabmalloc_zone_deallocate(zone, page + (capacity - 1) * object_bytes + 1, object_bytes, 1),
                     FREE_INTERIOR);
        CHECK_STATUS(slabmalloc_zone_deallocate(zone, page + capacity * object_bytes, object_bytes, 1), FREE_INTERIOR);
    } else {
        CHECK_STATUS(slabmalloc_zone_deallocate(zone, page + (capacity - 1) * object_bytes, object_bytes, 1),
                     FREE_DOUBLE);
    }
    CHECK_EQUAL(slabmalloc_zone_stats(zone, 0).live_objects, limit);
    for (size_t i = 0; i < limit; i++)
        if (!CHECK_OK(slabmalloc_zone_deallocate(zone, page + (limit - 1 - i) * object_bytes, object_bytes, 1)))
            break;
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    memory_free(page, page_bytes);
}

static void pages_of_every_size_work(void)
{
    for (uint32_t page = SLABMALLOC_MIN_PAGE_BYTES;
         page <= (UNDER_TSAN ? 1u << 24 : SLABMALLOC_MAX_PAGE_BYTES) && page != 0; page *= 2) {
        check_page_size(page, page <= 1u << 24 ? 8 : 1024);
        check_page_size(page, 64);
        check_page_size(page, page / 4);
    }
}

/* 134 million slots: five levels of bitmap are not needed for fewer. */
static void the_smallest_object_on_the_largest_page(void)
{
    if (UNDER_TSAN || UNDER_ASAN)
        return; /* shadow memory */
    check_page_size((uint32_t)SLABMALLOC_MAX_PAGE_BYTES, 8);
}

/* An object as large as fits: one per page. */
static void one_object_per_page(void)
{
    for (uint32_t page = SLABMALLOC_MIN_PAGE_BYTES; page <= 1u << 22; page *= 2) {
        CHECK_EQUAL(objects_per_page(page - 48, page), 1);
        CHECK_EQUAL(objects_per_page(page - 40, page), 0);
        check_page_size(page, page - 48);
    }
}

int main(void)
{
    RUN(a_page_holds_as_much_as_fits);
    RUN(a_large_page_of_512_holds_4080);
    RUN(metadata_is_at_most_a_fiftieth);
    RUN(statistics_tell_the_layout);
    RUN(pages_of_every_size_work);
    RUN(the_smallest_object_on_the_largest_page);
    RUN(one_object_per_page);
    return check_finish();
}
