/* SPDX-License-Identifier: MIT
 *
 * Statistics: every byte is accounted for after every step, and each number is what the test counted itself.
 */
#include "fixture.h"

enum { LIVE = 2000, STEPS = 8000, CLASSES = 6 };

static const size_t sizes[CLASSES] = {8, 64, 128, 256, 320, 4096};

typedef struct counted {
    size_t live[CLASSES];
    uint64_t remote[CLASSES];
    struct {
        char *object;
        size_t kind;
    } objects[LIVE];
    size_t count;
} counted;

static void check_numbers(slabmalloc_zone *zone, const counted *c, const test_pager *pager)
{
    size_t live = 0, bytes = 0, pages = 0, mapped = 0;
    for (size_t i = 0; i < pager->count; i++)
        mapped += pager->bytes[i];
    for (size_t k = 0; k < CLASSES; k++) {
        slabmalloc_class_stats s = slabmalloc_zone_stats(zone, slabmalloc_zone_class_of(zone, sizes[k], 8));
        CHECK_EQUAL(s.live_objects, c->live[k]);
        CHECK_EQUAL(s.live_bytes, c->live[k] * sizes[k]);
        CHECK_EQUAL(s.remote_frees, c->remote[k]);
        CHECK_EQUAL(s.object_bytes, sizes[k]);
        CHECK_EQUAL(s.capacity, page_layout_of(sizes[k], s.page_bytes).capacity);
        live += c->live[k];
        bytes += c->live[k] * sizes[k];
        pages += s.empty_pages + s.partial_pages + s.full_pages;
    }
    slabmalloc_class_stats all = slabmalloc_zone_stats(zone, -1);
    CHECK_EQUAL(all.live_objects, live);
    CHECK_EQUAL(all.live_bytes, bytes);
    CHECK_EQUAL(all.mapped_bytes, mapped);
    CHECK_EQUAL(pages, pager->count);
    CHECK_CONSERVED(zone);
}

/* One zone at random; in an unowned one, half of the frees are remote. */
static void run_random(uint64_t seed, bool unowned)
{
    static counted c;
    memset(&c, 0, sizeof c);
    check_seed = seed;
    random_source source = random_from(seed);
    test_pager *pager = test_pager_new();
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    slabmalloc_pager calls = test_pager_of(pager);
    options.pager = &calls;
    options.unowned = unowned;
    slabmalloc_zone *zone = zone_new(&options);
    for (int step = 0; step < STEPS; step++) {
        size_t bias = step / 2000 % 2 == 0 ? 65 : 35;
        if (c.count == 0 || (c.count < LIVE && random_below(&source, 100) < bias)) {
            size_t kind = random_below(&source, CLASSES);
            char *object = slabmalloc_zone_allocate(zone, sizes[kind] - random_below(&source, 7), 8);
            REQUIRE(object != NULL);
            c.objects[c.count].object = object;
            c.objects[c.count++].kind = kind;
            c.live[kind]++;
        } else {
            size_t i = random_below(&source, c.count), kind = c.objects[i].kind;
            bool is_remote = unowned && random_below(&source, 2) == 0;
            c.remote[kind] += is_remote;
            CHECK_OK(is_remote || !unowned
                         ? slabmalloc_zone_deallocate(zone, c.objects[i].object, sizes[kind], 8)
                         : slabmalloc_zone_deallocate_owned(zone, c.objects[i].object, sizes[kind], 8));
            c.live[kind]--;
            c.objects[i] = c.objects[--c.count];
        }
        if (random_below(&source, 200) == 0)
            slabmalloc_zone_reclaim(zone, -1, 4096, random_below(&source, 10), NULL, NULL);
        if (step < 300 || step % 7 == 0)
            check_numbers(zone, &c, pager);
    }
    for (size_t i = 0; i < c.count; i++) {
        CHECK_OK(slabmalloc_zone_deallocate_owned(zone, c.objects[i].object, sizes[c.objects[i].kind], 8));
        c.live[c.objects[i].kind]--;
    }
    c.count = 0;
    check_numbers(zone, &c, pager);
    slabmalloc_class_stats all = slabmalloc_zone_stats(zone, -1);
    CHECK_EQUAL(all.empty_bytes, all.mapped_bytes);
    slabmalloc_zone_reclaim(zone, -1, 4096, SIZE_MAX, NULL, NULL);
    slabmalloc_zone_reclaim(zone, -1, SLABMALLOC_LARGE_PAGE_BYTES, SIZE_MAX, NULL, NULL);
    all = slabmalloc_zone_stats(zone, -1);
    CHECK_EQUAL(all.mapped_bytes, 0);
    CHECK_EQUAL(all.pages_taken, all.pages_returned);
    CHECK_EQUAL(pager->count, 0);
    slabmalloc_zone_destroy(zone);
    test_pager_end(pager);
}

static void every_step_conserves(void)
{
    run_random(1, false);
    run_random(2, false);
}

static void every_step_conserves_with_remote_frees(void)
{
    run_random(3, true);
    run_random(4, true);
}

static void the_states_of_a_page_are_counted(void)
{
    slabmalloc_zone *zone = zone_default();
    char *page = object_page();
    size_t capacity = page_layout_of(256, 4096).capacity;
    int index = slabmalloc_zone_class_of(zone, 256, 8);
    CHECK_OK(slabmalloc_zone_refill(zone, 256, 8, page, 4096));
    for (size_t i = 0; i <= capacity; i++) { /* the current slab counts by what it holds */
        slabmalloc_class_stats s = slabmalloc_zone_stats(zone, index);
        CHECK_EQUAL(s.empty_pages, i == 0);
        CHECK_EQUAL(s.partial_pages, i > 0 && i < capacity);
        CHECK_EQUAL(s.full_pages, i == capacity);
        CHECK_EQUAL(s.empty_bytes, i == 0 ? 4096 : 0);
        CHECK_EQUAL(s.metadata_bytes, i == 0 ? 0 : 48);
        CHECK_EQUAL(s.pages_taken, 1);
        CHECK_CONSERVED(zone);
        CHECK_EQUAL(slabmalloc_zone_allocate(zone, 256, 8) != NULL, i < capacity);
    }
    slabmalloc_zone_destroy(zone);
    memory_free(page, 4096);
}

/* Asking changes nothing: neither what comes next, nor the answer. */
static void asking_changes_nothing(void)
{
    slabmalloc_zone *zone = zone_default();
    char *page = object_page();
    CHECK_OK(slabmalloc_zone_refill(zone, 64, 8, page, 4096));
    for (size_t i = 0; i < 20; i++) {
        slabmalloc_class_stats a = slabmalloc_zone_stats(zone, -1), b = slabmalloc_zone_stats(zone, -1);
        CHECK_EQUAL(memcmp(&a, &b, sizeof a), 0);
        CHECK(slabmalloc_zone_bookkeeping_bytes(zone) > 0);
        CHECK_SOUND(zone);
        CHECK_POINTER(slabmalloc_zone_allocate(zone, 64, 8), page + 64 * i);
    }
    slabmalloc_zone_destroy(zone);
    memory_free(page, 4096);
}

int main(void)
{
    RUN(the_states_of_a_page_are_counted);
    RUN(asking_changes_nothing);
    RUN(every_step_conserves);
    RUN(every_step_conserves_with_remote_frees);
    return check_finish();
}
