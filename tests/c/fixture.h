/* SPDX-License-Identifier: MIT
 *
 * What the C tests share beside checks: aligned pages, a pager that keeps count, fails on demand and notices what is
 * given back wrongly, the layout of a page computed anew from its definition, and conservation.
 */
#ifndef FIXTURE_H
#define FIXTURE_H

#include "check.h"

#include <sys/mman.h>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

/* ---- pages ---- */

/* `bytes` of zeroed memory aligned to `align`, touched by nobody yet. */
static inline void *memory_new(size_t bytes, size_t align)
{
    size_t span = bytes + align;
    char *raw = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(raw != MAP_FAILED);
    size_t before = (align - (uintptr_t)raw % align) % align;
    if (before > 0)
        munmap(raw, before);
    if (span > before + bytes)
        munmap(raw + before + bytes, span - before - bytes);
    return raw + before;
}

static inline void memory_free(void *memory, size_t bytes) { munmap(memory, bytes); }
static inline void *page_new(size_t page_bytes) { return memory_new(page_bytes, page_bytes); }
static inline void *object_page(void) { return page_new(SLABMALLOC_OBJECT_PAGE_BYTES); }
static inline void *large_page(void) { return page_new(SLABMALLOC_LARGE_PAGE_BYTES); }

/* ---- a pager for tests ---- */

enum { TEST_PAGER_PAGES = 4096 };

typedef struct test_pager {
    void *pages[TEST_PAGER_PAGES];
    size_t bytes[TEST_PAGER_PAGES];
    size_t count;     /* pages out now */
    size_t requests;  /* so far */
    size_t fail_from; /* requests number fail_from, fail_from + 1, ... fail_to - 1 get NULL; counted from 0 */
    size_t fail_to;
    size_t max_pages; /* out at once */
} test_pager;

static inline void *test_pager_allocate(void *context, size_t page_bytes)
{
    test_pager *pager = context;
    size_t number = pager->requests++;
    if ((number >= pager->fail_from && number < pager->fail_to) || pager->count >= pager->max_pages)
        return NULL;
    REQUIRE(pager->count < TEST_PAGER_PAGES);
    void *page = page_new(page_bytes);
    memset(page, 0xA5, page_bytes < 65536 ? page_bytes : 65536); /* pages need not come zeroed */
    pager->pages[pager->count] = page;
    pager->bytes[pager->count++] = page_bytes;
    return page;
}

static inline void test_pager_release(void *context, void *page, size_t page_bytes)
{
    test_pager *pager = context;
    for (size_t i = 0; i < pager->count; i++) {
        if (pager->pages[i] != page)
            continue;
        CHECK_EQUAL(page_bytes, pager->bytes[i]);
        memory_free(page, pager->bytes[i]);
        pager->count--;
        pager->pages[i] = pager->pages[pager->count];
        pager->bytes[i] = pager->bytes[pager->count];
        return;
    }
    CHECK_POINTER(page, "a page that is out");
}

static inline test_pager *test_pager_new(void)
{
    test_pager *pager = calloc(1, sizeof *pager);
    REQUIRE(pager != NULL);
    pager->max_pages = TEST_PAGER_PAGES;
    return pager;
}

static inline slabmalloc_pager test_pager_of(test_pager *pager)
{
    return (slabmalloc_pager){test_pager_allocate, test_pager_release, pager};
}

/* Every page must be back by now. */
static inline void test_pager_end(test_pager *pager)
{
    CHECK_EQUAL(pager->count, 0);
    free(pager);
}

/* For reclaim: the pages that came back, in order. */
typedef struct page_list {
    size_t count;
    void *pages[64];
    size_t bytes[64];
} page_list;

static inline void page_list_add(void *context, void *page, size_t page_bytes)
{
    page_list *list = context;
    REQUIRE(list->count < sizeof list->pages / sizeof *list->pages);
    list->bytes[list->count] = page_bytes;
    list->pages[list->count++] = page;
}

/* ---- zones ---- */

static inline slabmalloc_zone *zone_new(const slabmalloc_zone_options *options)
{
    slabmalloc_zone *zone = slabmalloc_zone_create(options);
    REQUIRE(zone != NULL);
    return zone;
}

static inline slabmalloc_zone *zone_default(void)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    return zone_new(&options);
}

static inline slabmalloc_zone *zone_on_pager(test_pager *pager)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    slabmalloc_pager calls = test_pager_of(pager);
    options.pager = &calls;
    return zone_new(&options);
}

static inline slabmalloc_size_classes classes_of(uint32_t base_page, uint32_t large_page_bytes, uint32_t max_base,
                                                 const uint32_t *sizes, uint32_t count)
{
    slabmalloc_size_classes classes = {.count = count,
                                       .base_page_bytes = base_page,
                                       .large_page_bytes = large_page_bytes,
                                       .max_base_bytes = max_base,
                                       .sizes = {0}};
    memcpy(classes.sizes, sizes, count * sizeof *sizes);
    return classes;
}

/* One class, on one page size. */
static inline slabmalloc_size_classes classes_one(uint32_t object_bytes, uint32_t page_bytes)
{
    return classes_of(page_bytes, page_bytes, object_bytes, &object_bytes, 1);
}

static inline size_t class_page_bytes(const slabmalloc_size_classes *classes, uint32_t index)
{
    return classes->sizes[index] <= classes->max_base_bytes ? classes->base_page_bytes : classes->large_page_bytes;
}

/* ---- the layout of a page that carries its meta-data, from its definition ---- */

typedef struct page_layout {
    size_t capacity, words;        /* words: of one bitset, all levels */
    size_t local, remote, trailer; /* offsets in the page */
} page_layout;

static inline size_t bitset_words_of(size_t bits)
{
    size_t words = 0, level = bits;
    do {
        level = (level + 63) / 64;
        words += level;
    } while (level > 1);
    return words;
}

static inline bool layout_fits(size_t n, size_t object_bytes, size_t page_bytes)
{
    return n * object_bytes + 16 * bitset_words_of(n) + 32 <= page_bytes;
}

static inline page_layout page_layout_of(size_t object_bytes, size_t page_bytes)
{
    size_t low = 0, high = page_bytes / object_bytes + 1; /* low fits, high does not */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (layout_fits(middle, object_bytes, page_bytes))
            low = middle;
        else
            high = middle;
    }
    page_layout layout = {.capacity = low, .words = bitset_words_of(low), .trailer = page_bytes - 32};
    layout.remote = layout.trailer - 8 * layout.words;
    layout.local = layout.remote - 8 * layout.words;
    return layout;
}

/* ---- conservation ---- */

static inline void check_conserved(slabmalloc_zone *zone, const char *file, int line)
{
    slabmalloc_class_stats sum = {0}, all = slabmalloc_zone_stats(zone, -1);
    const slabmalloc_size_classes *classes = slabmalloc_zone_classes(zone);
    bool is_right = true;
    for (int i = 0; i < (int)classes->count; i++) {
        slabmalloc_class_stats s = slabmalloc_zone_stats(zone, i);
        size_t pages = s.empty_pages + s.partial_pages + s.full_pages, in_use = s.partial_pages + s.full_pages;
        is_right =
            is_right && s.object_bytes == classes->sizes[i] && s.page_bytes == class_page_bytes(classes, (uint32_t)i) &&
            s.live_bytes + s.free_bytes + s.metadata_bytes + s.tail_bytes + s.empty_bytes == s.mapped_bytes &&
            s.live_bytes == s.live_objects * s.object_bytes && s.empty_bytes == s.empty_pages * s.page_bytes &&
            s.mapped_bytes == pages * s.page_bytes && s.pages_taken - s.pages_returned == pages &&
            s.live_bytes + s.free_bytes == in_use * s.capacity * s.object_bytes &&
            s.live_objects <= in_use * s.capacity && s.live_objects >= s.full_pages * s.capacity + s.partial_pages;
        if (!is_right) {
            if (check_fail(file, line))
                printf("class %d (%zu bytes): live %zu + free %zu + metadata %zu + tail %zu + empty %zu, mapped %zu; "
                       "pages %zu/%zu/%zu, "
                       "%zu live of %zu each\n",
                       i, s.object_bytes, s.live_bytes, s.free_bytes, s.metadata_bytes, s.tail_bytes, s.empty_bytes,
                       s.mapped_bytes, s.empty_pages, s.partial_pages, s.full_pages, s.live_objects, s.capacity);
            return;
        }
        sum.live_objects += s.live_objects;
        sum.live_bytes += s.live_bytes;
        sum.free_bytes += s.free_bytes;
        sum.metadata_bytes += s.metadata_bytes;
        sum.tail_bytes += s.tail_bytes;
        sum.empty_bytes += s.empty_bytes;
        sum.mapped_bytes += s.mapped_bytes;
        sum.empty_pages += s.empty_pages;
        sum.partial_pages += s.partial_pages;
        sum.full_pages += s.full_pages;
        sum.remote_frees += s.remote_frees;
        sum.pages_taken += s.pages_taken;
        sum.pages_returned += s.pages_returned;
    }
    is_right = all.object_bytes == 0 && all.page_bytes == 0 && all.capacity == 0 &&
               all.live_objects == sum.live_objects && all.live_bytes == sum.live_bytes &&
               all.free_bytes == sum.free_bytes && all.metadata_bytes == sum.metadata_bytes &&
               all.tail_bytes == sum.tail_bytes && all.empty_bytes == sum.empty_bytes &&
               all.mapped_bytes == sum.mapped_bytes && all.empty_pages == sum.empty_pages &&
               all.partial_pages == sum.partial_pages && all.full_pages == sum.full_pages &&
               all.remote_frees == sum.remote_frees && all.pages_taken == sum.pages_taken &&
               all.pages_returned == sum.pages_returned;
    if (!is_right && check_fail(file, line))
        puts("the zone's statistics are not the sum of its classes'");
    check_sound(zone, file, line);
}
#define CHECK_CONSERVED(zone) check_conserved((zone), __FILE__, __LINE__)

#endif
