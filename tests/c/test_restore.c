/* SPDX-License-Identifier: MIT
 *
 * Pages that outlive their zone: detach, copy, restore. Torn or forged meta-data is refused, or it is believed and then
 * everything holds: never a crash, never a zone that fails its audit.
 */
#include "fixture.h"

enum { PAGE = 4096 };

typedef struct leftover {
    size_t pages, live;
    void *page[32];
    size_t live_in[32];
} leftover;

static void note_page(void *context, void *page, size_t page_bytes, size_t live)
{
    leftover *rest = context;
    (void)page_bytes;
    rest->page[rest->pages] = page;
    rest->live_in[rest->pages++] = live;
    rest->live += live;
}

/* A page with `live` objects of `size` bytes in its first slots, every third of them freed again; detached. */
static size_t make_page(char *page, size_t page_bytes, size_t size, size_t live)
{
    slabmalloc_zone *zone = zone_default();
    CHECK_OK(slabmalloc_zone_refill(zone, size, 8, page, page_bytes));
    for (size_t i = 0; i < live; i++) {
        char *object = slabmalloc_zone_allocate(zone, size, 8);
        CHECK_POINTER(object, page + i * size);
        memset(object, (int)(i % 256), size);
    }
    size_t freed = 0;
    for (size_t i = 0; i < live; i += 3, freed++)
        CHECK_OK(slabmalloc_zone_deallocate(zone, page + i * size, size, 8));
    leftover rest = {0};
    slabmalloc_zone_detach(zone, note_page, &rest);
    CHECK_EQUAL(rest.pages, 1);
    CHECK_EQUAL(rest.live, live - freed);
    CHECK_POINTER(rest.page[0], page);
    return live - freed;
}

static void a_copy_of_a_page_is_restored(void)
{
    static const size_t sizes[] = {8, 16, 64, 256, 320, 512, 1024, 131072};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t size = sizes[s], page_bytes = size <= 256 ? SLABMALLOC_OBJECT_PAGE_BYTES : SLABMALLOC_LARGE_PAGE_BYTES;
        page_layout layout = page_layout_of(size, page_bytes);
        char *page = page_new(page_bytes), *copy = page_new(page_bytes);
        size_t used = layout.capacity * 2 / 3, live = make_page(page, page_bytes, size, used);
        memcpy(copy, page, page_bytes);
        memory_free(page, page_bytes);
        slabmalloc_zone *zone = zone_default();
        CHECK_OK(slabmalloc_zone_restore(zone, copy, page_bytes));
        CHECK_STATUS(slabmalloc_zone_restore(zone, copy, page_bytes), PAGE_IN_USE);
        CHECK_CONSERVED(zone);
        CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, live);
        for (size_t i = 0; i < used; i++) {
            if (i % 3 == 0)
                CHECK_STATUS(slabmalloc_zone_deallocate(zone, copy + i * size, size, 8), FREE_DOUBLE);
            else
                CHECK(copy[i * size] == (char)(i % 256) && copy[i * size + size - 1] == (char)(i % 256));
        }
        /* Free slots are handed out, live objects are not. */
        for (size_t i = 0; i < used; i += 3)
            CHECK_POINTER(slabmalloc_zone_allocate(zone, size, 8), copy + i * size);
        CHECK_POINTER(slabmalloc_zone_allocate(zone, size, 8), copy + used * size);
        for (size_t i = 0; i <= used; i++)
            CHECK_OK(slabmalloc_zone_deallocate(zone, copy + i * size, size, 8));
        CHECK_CONSERVED(zone);
        CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).empty_pages, 1);
        slabmalloc_zone_destroy(zone);
        memory_free(copy, page_bytes);
    }
}

static void empty_and_full_pages_are_restored(void)
{
    char *full = object_page(), *empty = object_page();
    size_t capacity = page_layout_of(128, PAGE).capacity;
    slabmalloc_zone *zone = zone_default();
    CHECK_OK(slabmalloc_zone_refill(zone, 128, 8, full, PAGE));
    for (size_t i = 0; i < capacity; i++)
        CHECK(slabmalloc_zone_allocate(zone, 128, 8) != NULL);
    CHECK_OK(slabmalloc_zone_refill(zone, 128, 8, empty, PAGE));
    char *empty_copy = object_page();
    memcpy(empty_copy, empty, PAGE);
    leftover rest = {0};
    slabmalloc_zone_detach(zone, note_page, &rest);
    CHECK_EQUAL(rest.pages, 2);
    CHECK_EQUAL(rest.live, capacity);
    zone = zone_default();
    CHECK_STATUS(slabmalloc_zone_restore(zone, empty, PAGE), PAGE_UNREADABLE); /* nothing was worth keeping: wiped */
    CHECK_OK(slabmalloc_zone_restore(zone, full, PAGE));
    CHECK_OK(slabmalloc_zone_restore(zone, empty_copy, PAGE)); /* but a slab without live objects is one */
    CHECK_CONSERVED(zone);
    slabmalloc_class_stats stats = slabmalloc_zone_stats(zone, -1);
    CHECK_EQUAL(stats.full_pages, 1);
    CHECK_EQUAL(stats.empty_pages, 1);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 128, 8), empty_copy);
    CHECK_OK(slabmalloc_zone_deallocate(zone, full, 128, 8));
    CHECK_OK(slabmalloc_zone_deallocate(zone, empty_copy, 128, 8));
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    memory_free(full, PAGE);
    memory_free(empty, PAGE);
    memory_free(empty_copy, PAGE);
}

static void outstanding_remote_frees_are_taken_over(void)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.unowned = true;
    for (int is_copied = 0; is_copied < 2; is_copied++) {
        char *page = object_page(), *copy = object_page();
        slabmalloc_zone *zone = zone_new(&options);
        CHECK_OK(slabmalloc_zone_refill(zone, 16, 8, page, PAGE));
        for (size_t i = 0; i < 200; i++)
            CHECK(slabmalloc_zone_allocate(zone, 16, 8) != NULL);
        for (size_t i = 0; i < 150; i++)
            CHECK_OK(slabmalloc_zone_deallocate(zone, page + 16 * i, 16, 8)); /* remote, not collected */
        memcpy(copy, page, PAGE);                                             /* as a killed process leaves it */
        leftover rest = {0};
        slabmalloc_zone_detach(zone, note_page, &rest);
        CHECK_EQUAL(rest.live, 50);
        zone = zone_default();
        char *restored = is_copied ? copy : page;
        CHECK_OK(slabmalloc_zone_restore(zone, restored, PAGE));
        CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, 50);
        CHECK_CONSERVED(zone);
        CHECK_STATUS(slabmalloc_zone_deallocate(zone, restored + 16 * 149, 16, 8), FREE_DOUBLE);
        CHECK_OK(slabmalloc_zone_deallocate(zone, restored + 16 * 150, 16, 8));
        CHECK_POINTER(slabmalloc_zone_allocate(zone, 16, 8), restored);
        CHECK_EQUAL(slabmalloc_zone_collect(zone), 0);
        CHECK_CONSERVED(zone);
        slabmalloc_zone_destroy(zone);
        memory_free(page, PAGE);
        memory_free(copy, PAGE);
    }
}

/* A freer that was killed half-way leaves a bit of level 0 that no summary tells of. */
static void a_remote_bit_without_its_summary_is_found(void)
{
    char *page = object_page();
    size_t live = make_page(page, PAGE, 8, 400);
    page_layout layout = page_layout_of(8, PAGE);
    CHECK(layout.words > 1);
    uint64_t *remote = (uint64_t *)(void *)(page + layout.remote);
    remote[3] |= 1u << 2; /* slot 194 = 3 * 64 + 2 is live: no multiple of three */
    slabmalloc_zone *zone = zone_default();
    CHECK_OK(slabmalloc_zone_restore(zone, page, PAGE));
    slabmalloc_zone_collect(zone);
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, live - 1);
    CHECK_STATUS(slabmalloc_zone_deallocate(zone, page + 8 * 194, 8, 8), FREE_DOUBLE);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    memory_free(page, PAGE);
}

static void a_zone_of_other_classes_refuses(void)
{
    char *page = object_page(), *large = large_page();
    make_page(page, PAGE, 48, 40);
    make_page(large, SLABMALLOC_LARGE_PAGE_BYTES, 1024, 40);
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.classes = slabmalloc_size_classes_powers_of_two();
    slabmalloc_zone *zone = zone_new(&options);
    CHECK_STATUS(slabmalloc_zone_restore(zone, page, PAGE), PAGE_CLASS);
    CHECK_OK(slabmalloc_zone_restore(zone, large, SLABMALLOC_LARGE_PAGE_BYTES));
    CHECK_CONSERVED(zone);
    leftover rest = {0};
    slabmalloc_zone_detach(zone, note_page, &rest);
    const uint32_t sizes[] = {48, 1024};
    options.classes = classes_of(8192, 1u << 20, 256, sizes, 2);
    zone = zone_new(&options);
    slabmalloc_status status = slabmalloc_zone_restore(zone, page, PAGE);
    CHECK(status == SLABMALLOC_PAGE_CLASS || status == SLABMALLOC_PAGE_SIZE);
    status = slabmalloc_zone_restore(zone, large, SLABMALLOC_LARGE_PAGE_BYTES);
    CHECK(status == SLABMALLOC_PAGE_CLASS || status == SLABMALLOC_PAGE_SIZE);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    /* The same sizes, but on the other kind of page. */
    options.classes = classes_of(PAGE, SLABMALLOC_LARGE_PAGE_BYTES, 16, sizes, 2);
    zone = zone_new(&options);
    status = slabmalloc_zone_restore(zone, page, PAGE);
    CHECK(status == SLABMALLOC_PAGE_CLASS || status == SLABMALLOC_PAGE_SIZE);
    CHECK_OK(slabmalloc_zone_restore(zone, large, SLABMALLOC_LARGE_PAGE_BYTES));
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    memory_free(page, PAGE);
    memory_free(large, SLABMALLOC_LARGE_PAGE_BYTES);
}

/* What a refused restore leaves: the page as it was, and a zone without it. */
static void check_refused(char *page, const char *saved, slabmalloc_zone *zone)
{
    CHECK_EQUAL(memcmp(page, saved, PAGE), 0);
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).mapped_bytes, 0);
    CHECK(slabmalloc_zone_inspect(zone, page).page == NULL);
    CHECK_CONSERVED(zone);
}

/* What an accepted one must be able to do: give out every free slot once, take back every live object once, and end. */
static void check_accepted(char *page, size_t size, slabmalloc_zone *zone)
{
    page_layout layout = page_layout_of(size, PAGE);
    CHECK_CONSERVED(zone);
    slabmalloc_class_stats stats = slabmalloc_zone_stats(zone, slabmalloc_zone_class_of(zone, size, 8));
    size_t live = stats.live_objects;
    CHECK_EQUAL(stats.mapped_bytes, PAGE);
    bool seen[512] = {false};
    for (size_t i = live; i < layout.capacity; i++) {
        char *object = slabmalloc_zone_allocate(zone, size, 8);
        size_t slot = (size_t)(object - page) / size;
        if (!CHECK(object >= page && slot < layout.capacity && !seen[slot]))
            return;
        seen[slot] = true;
    }
    CHECK_POINTER(slabmalloc_zone_allocate(zone, size, 8), NULL);
    for (size_t i = 0; i < layout.capacity; i++)
        CHECK_OK(slabmalloc_zone_deallocate(zone, page + i * size, size, 8));
    CHECK_CONSERVED(zone);
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).empty_pages, 1);
}

/* The status of restoring `page`, as it is now, into a new zone, which is examined and ended. */
static slabmalloc_status try_restore(char *page, size_t size)
{
    char saved[PAGE];
    memcpy(saved, page, PAGE);
    slabmalloc_zone *zone = zone_default();
    slabmalloc_status status = slabmalloc_zone_restore(zone, page, PAGE);
    if (status == SLABMALLOC_OK)
        check_accepted(page, size, zone);
    else
        check_refused(page, saved, zone);
    slabmalloc_zone_destroy(zone);
    memcpy(page, saved, PAGE);
    return status;
}

/* Every bit of the meta-data, flipped one at a time. */
static void every_flipped_bit_is_defined(void)
{
    static const size_t sizes[] = {8, 64, 240};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        char *page = object_page();
        page_layout layout = page_layout_of(sizes[s], PAGE);
        make_page(page, PAGE, sizes[s], layout.capacity * 3 / 4);
        CHECK_OK(try_restore(page, sizes[s]));
        for (size_t offset = layout.local; offset < PAGE; offset++) {
            for (int bit = 0; bit < 8; bit++) {
                page[offset] ^= (char)(1 << bit);
                slabmalloc_status status = try_restore(page, sizes[s]);
                if (offset >= layout.trailer) /* nothing in the trailer can be believed when a bit of it is wrong */
                    CHECK(status == SLABMALLOC_PAGE_UNREADABLE || status == SLABMALLOC_PAGE_CLASS);
                else
                    CHECK(status == SLABMALLOC_OK || status == SLABMALLOC_PAGE_UNREADABLE);
                page[offset] ^= (char)(1 << bit);
            }
        }
        CHECK_OK(try_restore(page, sizes[s]));
        memory_free(page, PAGE);
    }
}

typedef struct trailer {
    uint64_t magic;
    uint32_t object_size, capacity, page_size, zero;
    uint64_t check;
} trailer;

static void sign(trailer *t)
{
    t->check =
        ((t->magic ^ ((uint64_t)t->object_size << 32 | t->capacity)) * UINT64_C(0x9E3779B97F4A7C15)) ^ t->page_size;
}

/* The trailer as documented, made by hand: this is a file format. */
static void the_trailer_is_as_documented(void)
{
    char *page = object_page();
    page_layout layout = page_layout_of(64, PAGE);
    trailer made = {.object_size = 64, .capacity = (uint32_t)layout.capacity, .page_size = PAGE, .zero = 0}, found;
    memcpy(&made.magic, "slabmal1", 8);
    sign(&made);
    make_page(page, PAGE, 64, 4);
    memcpy(&found, page + layout.trailer, sizeof found);
    CHECK_EQUAL(memcmp(&found, &made, sizeof made), 0);
    uint64_t words[2]; /* local, remote: slots 1 and 2 are live */
    memcpy(words, page + layout.local, sizeof words);
    CHECK_EQUAL(words[0], ((UINT64_C(1) << layout.capacity) - 1) & ~UINT64_C(6));
    CHECK_EQUAL(words[1], 0);
    /* And a page made by hand is restored. */
    memset(page, 0, PAGE);
    words[0] = 1 << 5;
    words[1] = 1 << 6;
    memcpy(page + layout.local, words, sizeof words);
    memcpy(page + layout.trailer, &made, sizeof made);
    slabmalloc_zone *zone = zone_default();
    CHECK_OK(slabmalloc_zone_restore(zone, page, PAGE));
    CHECK_EQUAL(slabmalloc_zone_stats(zone, -1).live_objects, layout.capacity - 2);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 64, 8), page + 64 * 5);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 64, 8), page + 64 * 6);
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 64, 8), NULL);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    memory_free(page, PAGE);
}

/* Trailers that are signed, but say what can't be. */
static void a_forged_trailer_is_refused(void)
{
    char *page = object_page();
    page_layout layout = page_layout_of(64, PAGE);
    make_page(page, PAGE, 64, 20);
    trailer good, bad;
    memcpy(&good, page + layout.trailer, sizeof good);
    static const uint32_t values[] = {0,
                                      1,
                                      7,
                                      8,
                                      16,
                                      63,
                                      65,
                                      72,
                                      256,
                                      264,
                                      4096,
                                      8192,
                                      65536,
                                      1u << 21,
                                      1u << 30,
                                      1u << 31,
                                      UINT32_MAX - 7,
                                      UINT32_MAX,
                                      UINT32_MAX / 2,
                                      62,
                                      131072};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        for (int field = 0; field < 4; field++) {
            bad = good;
            *(field == 0   ? &bad.object_size
              : field == 1 ? &bad.capacity
              : field == 2 ? &bad.page_size
                           : &bad.zero) = values[i];
            if (memcmp(&bad, &good, sizeof bad) == 0)
                continue;
            sign(&bad);
            memcpy(page + layout.trailer, &bad, sizeof bad);
            slabmalloc_status status = try_restore(page, 64);
            CHECK(status == SLABMALLOC_PAGE_UNREADABLE || status == SLABMALLOC_PAGE_CLASS);
        }
    }
    /* Size and capacity that fit together, but not what the bitsets were made for. */
    for (uint32_t size = 8; size <= 256; size += 8) {
        bad = good;
        bad.object_size = size;
        bad.capacity = (uint32_t)page_layout_of(size, PAGE).capacity;
        sign(&bad);
        memcpy(page + layout.trailer, &bad, sizeof bad);
        slabmalloc_status status = try_restore(page, size);
        CHECK(size == 64 ? status == SLABMALLOC_OK : true);
    }
    memory_free(page, PAGE);
}

static void random_metadata_is_defined(void)
{
    check_seed = 17;
    random_source source = random_from(check_seed);
    char *page = object_page();
    for (int i = 0; i < 4000; i++) {
        size_t size = 8 * (1 + random_below(&source, 32));
        if (size > 128)
            size = size <= 144 ? 144 : size <= 192 ? 192 : 256;
        else if (size > 8)
            size = (size + 15) / 16 * 16;
        page_layout layout = page_layout_of(size, PAGE);
        for (size_t offset = layout.local; offset < layout.trailer; offset += 8) {
            uint64_t bits = random_word(&source);
            if (offset >= layout.remote)
                bits &= random_below(&source, 4) == 0 ? random_word(&source) : 0;
            memcpy(page + offset, &bits, 8);
        }
        trailer made = {
            .object_size = (uint32_t)size, .capacity = (uint32_t)layout.capacity, .page_size = PAGE, .zero = 0};
        memcpy(&made.magic, "slabmal1", 8);
        sign(&made);
        memcpy(page + layout.trailer, &made, sizeof made);
        slabmalloc_status status = try_restore(page, size);
        CHECK(status == SLABMALLOC_OK || status == SLABMALLOC_PAGE_UNREADABLE);
    }
    memory_free(page, PAGE);
}

static void detach_hands_over_every_page_once(void)
{
    test_pager *pager = test_pager_new();
    slabmalloc_zone *zone = zone_on_pager(pager);
    for (int i = 0; i < 300; i++)
        CHECK(slabmalloc_zone_allocate(zone, 100, 8) != NULL);
    CHECK(slabmalloc_zone_allocate(zone, 1000, 8) != NULL);
    void *gone = slabmalloc_zone_allocate(zone, 16, 8);
    CHECK_OK(slabmalloc_zone_deallocate(zone, gone, 16, 8));
    leftover rest = {0};
    size_t pages = pager->count;
    slabmalloc_zone_detach(zone, note_page, &rest);
    CHECK_EQUAL(rest.pages, pages);
    CHECK_EQUAL(rest.live, 301);
    CHECK_EQUAL(pager->count, pages); /* the callback instead of the pager */
    for (size_t i = 0; i < rest.pages; i++) {
        for (size_t j = 0; j < i; j++)
            CHECK(rest.page[i] != rest.page[j]);
        for (size_t j = 0; j < pager->count; j++)
            if (pager->pages[j] == rest.page[i]) {
                test_pager_release(pager, rest.page[i], pager->bytes[j]);
                break;
            }
    }
    test_pager_end(pager);
}

int main(void)
{
    RUN(a_copy_of_a_page_is_restored);
    RUN(empty_and_full_pages_are_restored);
    RUN(outstanding_remote_frees_are_taken_over);
    RUN(a_remote_bit_without_its_summary_is_found);
    RUN(a_zone_of_other_classes_refuses);
    RUN(every_flipped_bit_is_defined);
    RUN(the_trailer_is_as_documented);
    RUN(a_forged_trailer_is_refused);
    RUN(random_metadata_is_defined);
    RUN(detach_hands_over_every_page_once);
    return check_finish();
}
