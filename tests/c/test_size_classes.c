/* SPDX-License-Identifier: MIT
 *
 * Size classes: the two tables, what makes a table valid, and which class serves a layout.
 */
#include "fixture.h"

static void default_table_is_as_documented(void)
{
    slabmalloc_size_classes classes = slabmalloc_size_classes_default();
    uint32_t expected[SLABMALLOC_MAX_CLASSES], count = 0;
    expected[count++] = 8;
    for (uint32_t size = 16; size <= 128; size += 16)
        expected[count++] = size;
    for (uint32_t base = 128; base < SLABMALLOC_MAX_ALLOC_BYTES; base *= 2)
        for (uint32_t step = 1; step <= 8; step++)
            expected[count++] = base + base / 8 * step;
    CHECK_EQUAL(classes.count, count);
    for (uint32_t i = 0; i < count && i < classes.count; i++)
        CHECK_EQUAL(classes.sizes[i], expected[i]);
    CHECK_EQUAL(classes.sizes[classes.count - 1], SLABMALLOC_MAX_ALLOC_BYTES);
    CHECK_EQUAL(classes.base_page_bytes, SLABMALLOC_OBJECT_PAGE_BYTES);
    CHECK_EQUAL(classes.large_page_bytes, SLABMALLOC_LARGE_PAGE_BYTES);
    CHECK_EQUAL(classes.max_base_bytes, SLABMALLOC_MAX_BASE_ALLOC_BYTES);
    CHECK(slabmalloc_size_classes_are_valid(&classes));
}

static void default_table_wastes_at_most_an_eighth(void)
{
    slabmalloc_size_classes classes = slabmalloc_size_classes_default();
    for (uint32_t i = 1; i < classes.count; i++) {
        if (classes.sizes[i - 1] < 128)
            continue;
        uint32_t worst_request = classes.sizes[i - 1] + 1;
        CHECK((classes.sizes[i] - worst_request) * 8 <= classes.sizes[i]); /* waste / slot <= 12.5 % */
    }
}

static void powers_of_two_are_the_seeds(void)
{
    slabmalloc_size_classes classes = slabmalloc_size_classes_powers_of_two();
    CHECK_EQUAL(classes.count, 15);
    for (uint32_t i = 0; i < 15; i++)
        CHECK_EQUAL(classes.sizes[i], 8u << i);
    CHECK_EQUAL(classes.base_page_bytes, SLABMALLOC_OBJECT_PAGE_BYTES);
    CHECK_EQUAL(classes.large_page_bytes, SLABMALLOC_LARGE_PAGE_BYTES);
    CHECK_EQUAL(classes.max_base_bytes, SLABMALLOC_MAX_BASE_ALLOC_BYTES);
    CHECK(slabmalloc_size_classes_are_valid(&classes));
}

static bool is_valid(uint32_t base_page, uint32_t large_page_bytes, uint32_t max_base, uint32_t count,
                     const uint32_t *sizes)
{
    slabmalloc_size_classes classes = classes_of(base_page, large_page_bytes, max_base, sizes, count);
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.classes = classes;
    bool valid = slabmalloc_size_classes_are_valid(&classes);
    slabmalloc_zone *zone = slabmalloc_zone_create(&options);
    CHECK_EQUAL(zone != NULL, valid); /* create refuses exactly the invalid ones */
    if (zone != NULL)
        slabmalloc_zone_destroy(zone);
    return valid;
}

static void invalid_tables_are_refused(void)
{
    const uint32_t good[] = {8, 64, 1024}, odd[] = {8, 20}, zero[] = {0, 8}, falling[] = {64, 8}, twice[] = {8, 8};
    CHECK(is_valid(4096, 4096, 256, 3, good));
    CHECK(is_valid(4096, 1u << 30, 256, 3, good));
    CHECK(is_valid(1u << 30, 4096, 256, 3, good));
    CHECK(!is_valid(4096, 4096, 256, 0, good));
    CHECK(!is_valid(4096, 4096, 256, 2, odd));
    CHECK(!is_valid(4096, 4096, 256, 2, zero));
    CHECK(!is_valid(4096, 4096, 256, 2, falling));
    CHECK(!is_valid(4096, 4096, 256, 2, twice));
    CHECK(!is_valid(2048, 4096, 256, 3, good)); /* too small */
    CHECK(!is_valid(4096, 2048, 256, 3, good));
    CHECK(!is_valid(6144, 4096, 256, 3, good)); /* not a power of two */
    CHECK(!is_valid(4096, 6144, 256, 3, good));
    CHECK(!is_valid(0, 4096, 256, 3, good));
    CHECK(!is_valid(4096, 0, 256, 3, good));
    CHECK(!is_valid(1u << 31, 4096, 256, 3, good)); /* too large */
    CHECK(!is_valid(4096, 1u << 31, 256, 3, good));

    slabmalloc_size_classes classes = slabmalloc_size_classes_default();
    classes.count = SLABMALLOC_MAX_CLASSES + 1;
    CHECK(!slabmalloc_size_classes_are_valid(&classes));
    classes.count = UINT32_MAX;
    CHECK(!slabmalloc_size_classes_are_valid(&classes));
}

static void a_class_must_fit_its_page(void)
{
    /* One object, its two bitset words and the trailer: 4096 - 16 - 32. */
    const uint32_t fits[] = {4048}, too_large[] = {4056}, huge[] = {4096};
    CHECK(is_valid(4096, 4096, 4048, 1, fits));
    CHECK(!is_valid(4096, 4096, 4056, 1, too_large));
    CHECK(!is_valid(4096, 4096, 4096, 1, huge));
    CHECK(is_valid(4096, 8192, 256, 1, huge)); /* on the large page */
    const uint32_t largest[] = {UINT32_MAX - 7};
    CHECK(!is_valid(1u << 30, 1u << 30, 256, 1, largest));
    CHECK(!is_valid(1u << 30, 1u << 30, UINT32_MAX, 1, largest));
}

static void as_many_classes_as_allowed_work(void)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.classes.count = SLABMALLOC_MAX_CLASSES;
    for (uint32_t i = 0; i < SLABMALLOC_MAX_CLASSES; i++)
        options.classes.sizes[i] = 8 * (i + 1);
    options.classes.max_base_bytes = 1024;
    CHECK(slabmalloc_size_classes_are_valid(&options.classes));
    slabmalloc_zone *zone = zone_new(&options);
    for (size_t size = 1; size <= 8 * SLABMALLOC_MAX_CLASSES; size++)
        CHECK_EQUAL(slabmalloc_zone_class_of(zone, size, 1), (size + 7) / 8 - 1);
    CHECK_EQUAL(slabmalloc_zone_class_of(zone, 8 * SLABMALLOC_MAX_CLASSES + 1, 1), -1);
    slabmalloc_zone_destroy(zone);
}

/* The definition: the smallest class >= round_up(size, align) that is a multiple of align; align at most its page. */
static int class_by_search(const slabmalloc_size_classes *classes, size_t size, size_t align)
{
    if (size == 0 || align == 0 || (align & (align - 1)) != 0 || size > classes->sizes[classes->count - 1])
        return -1;
    size_t rounded = (size + align - 1) / align * align;
    for (uint32_t i = 0; i < classes->count; i++)
        if (classes->sizes[i] >= rounded && classes->sizes[i] % align == 0 && align <= class_page_bytes(classes, i))
            return (int)i;
    return -1;
}

static void check_class_of(const slabmalloc_size_classes *classes, size_t step)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.classes = *classes;
    slabmalloc_zone *zone = zone_new(&options);
    for (size_t align = 1; align <= (size_t)1 << 32; align *= 2) {
        for (size_t size = 1; size <= 4096; size++)
            CHECK_EQUAL(slabmalloc_zone_class_of(zone, size, align), class_by_search(classes, size, align));
        for (size_t size = 4097; size <= SLABMALLOC_MAX_ALLOC_BYTES + 16; size += step)
            CHECK_EQUAL(slabmalloc_zone_class_of(zone, size, align), class_by_search(classes, size, align));
    }
    slabmalloc_zone_destroy(zone);
}

static void class_of_is_the_smallest_that_serves(void)
{
    slabmalloc_size_classes classes = slabmalloc_size_classes_default();
    check_class_of(&classes, 61);
    classes = slabmalloc_size_classes_powers_of_two();
    check_class_of(&classes, 509);
    const uint32_t uneven[] = {24, 40, 136, 1000, 4096, 12288, 98304};
    classes = classes_of(4096, 1u << 21, 136, uneven, 7);
    check_class_of(&classes, 509);
    const uint32_t one[] = {8};
    classes = classes_of(4096, 4096, 8, one, 1);
    check_class_of(&classes, 16381);
}

static void layouts_that_no_class_serves(void)
{
    slabmalloc_zone *zone = zone_default();
    static const struct {
        size_t size, align;
    } layouts[] = {{0, 1},
                   {0, 8},
                   {0, 0},
                   {1, 0},
                   {8, 3},
                   {8, 24},
                   {8, SIZE_MAX},
                   {SIZE_MAX, 1},
                   {SIZE_MAX, 8},
                   {SIZE_MAX, SIZE_MAX},
                   {SIZE_MAX - 6, 8},
                   {1, ~(SIZE_MAX >> 1)},
                   {131073, 1},
                   {131072, 262144},
                   {100000, 131072 * 2},
                   {SIZE_MAX / 2 + 1, 1},
                   {SIZE_MAX / 2 + 1, SIZE_MAX / 2 + 1}};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        CHECK_EQUAL(slabmalloc_zone_class_of(zone, layouts[i].size, layouts[i].align), -1);
        CHECK_POINTER(slabmalloc_zone_allocate(zone, layouts[i].size, layouts[i].align), NULL);
    }
    CHECK_EQUAL(slabmalloc_zone_classes(zone)->sizes[slabmalloc_zone_class_of(zone, 1, 131072)], 131072);
    slabmalloc_zone_destroy(zone);
}

static void every_status_has_a_text(void)
{
    for (int i = -1; i <= SLABMALLOC_PAGE_CLASS + 1; i++) {
        const char *text = slabmalloc_status_text((slabmalloc_status)i);
        CHECK(text != NULL && *text != '\0');
        for (int j = 0; j < i && i <= SLABMALLOC_PAGE_CLASS; j++)
            CHECK(strcmp(text, slabmalloc_status_text((slabmalloc_status)j)) != 0);
    }
}

int main(void)
{
    RUN(default_table_is_as_documented);
    RUN(default_table_wastes_at_most_an_eighth);
    RUN(powers_of_two_are_the_seeds);
    RUN(invalid_tables_are_refused);
    RUN(a_class_must_fit_its_page);
    RUN(as_many_classes_as_allowed_work);
    RUN(class_of_is_the_smallest_that_serves);
    RUN(layouts_that_no_class_serves);
    RUN(every_status_has_a_text);
    return check_finish();
}
