/* SPDX-License-Identifier: MIT
 *
 * Random operations on a zone and on its shadow, step by step: same addresses, same statuses, same statistics.
 * Usage: test_model [steps [seed]]; SLABMALLOC_MODEL_STEPS sets the steps as well.
 */
#include "shadow.h"

enum { MAX_LIVE = 5000, MAX_PAGES = 48, CLASSES = 8, MANY = 150 };

static const uint32_t table[CLASSES] = {8, 16, 64, 96, 256, 1024, 1536, 4096}; /* the last three on 16 KiB pages */

typedef struct model {
    random_source source;
    slabmalloc_zone *zone;
    shadow *shadow;
    test_pager *pager; /* NULL: pages come by hand, from `arena` */
    char *arena;       /* MAX_PAGES x 16 KiB */
    bool unowned;
    size_t count;
    struct {
        char *object;
        size_t size, align;
    } live[MAX_LIVE];
} model;

static size_t pick(model *m, size_t bound) { return random_below(&m->source, bound); }

static void random_layout(model *m, size_t *size, size_t *align)
{
    static const size_t odd_sizes[] = {0, 4097, SIZE_MAX}, odd_aligns[] = {0, 3, 48, (size_t)1 << 40};
    *size = 1 + pick(m, pick(m, 4) == 0 ? 4096 : 260);
    *align = (size_t)1 << pick(m, 4);
    if (pick(m, 100) == 0)
        *size = odd_sizes[pick(m, 3)];
    if (pick(m, 100) == 0)
        *align = odd_aligns[pick(m, 4)];
    if (pick(m, 20) == 0)
        *align = (size_t)1 << pick(m, 13);
}

/* A page that the zone may take from its pager for this allocation, told to the shadow. */
static void *expected_address(model *m, int class_index, size_t *pages_before)
{
    void *expected = shadow_allocate(m->shadow, class_index);
    if (expected == NULL && class_index >= 0 && m->pager != NULL && m->pager->count > *pages_before) {
        shadow_refill(m->shadow, class_index, m->pager->pages[(*pages_before)++]);
        expected = shadow_allocate(m->shadow, class_index);
    }
    return expected;
}

static void note_live(model *m, void *object, size_t size, size_t align)
{
    m->live[m->count].object = object;
    m->live[m->count].size = size;
    m->live[m->count++].align = align;
}

static void allocate_one(model *m)
{
    size_t size, align, pages = m->pager != NULL ? m->pager->count : 0;
    random_layout(m, &size, &align);
    int class_index = shadow_class_of(m->shadow, size, align);
    CHECK_EQUAL(slabmalloc_zone_class_of(m->zone, size, align), class_index);
    if (m->count == MAX_LIVE)
        return;
    void *object = slabmalloc_zone_allocate(m->zone, size, align);
    CHECK_POINTER(object, expected_address(m, class_index, &pages));
    if (object != NULL)
        note_live(m, object, size, align);
}

static void allocate_many(model *m)
{
    size_t size, align, pages = m->pager != NULL ? m->pager->count : 0, wanted = pick(m, MANY);
    random_layout(m, &size, &align);
    if (m->count + MANY > MAX_LIVE)
        return;
    void *objects[MANY];
    int class_index = shadow_class_of(m->shadow, size, align);
    size_t got = slabmalloc_zone_allocate_many(m->zone, size, align, objects, wanted);
    for (size_t i = 0; i < got; i++) {
        CHECK_POINTER(objects[i], expected_address(m, class_index, &pages));
        note_live(m, objects[i], size, align);
    }
    if (got < wanted)
        CHECK_POINTER(expected_address(m, class_index, &pages), NULL);
}

static slabmalloc_status free_in_zone(model *m, void *object, size_t size, size_t align, bool is_remote)
{
    return is_remote || !m->unowned ? slabmalloc_zone_deallocate(m->zone, object, size, align)
                                    : slabmalloc_zone_deallocate_owned(m->zone, object, size, align);
}

static void free_one(model *m)
{
    if (m->count == 0)
        return;
    size_t i = pick(m, m->count);
    char *object = m->live[i].object;
    bool is_remote = m->unowned && pick(m, 2) == 0;
    if (is_remote && shadow_must_collect(m->shadow, object))
        CHECK_EQUAL(slabmalloc_zone_collect(m->zone), shadow_collect_all(m->shadow));
    CHECK_OK(free_in_zone(m, object, m->live[i].size, m->live[i].align, is_remote));
    shadow_deallocate(m->shadow, object, is_remote);
    m->live[i] = m->live[--m->count];
}

/* A wrong free of some kind; the shadow says which status it gets. */
static void free_wrongly(model *m)
{
    size_t size = 64, align = 8;
    uintptr_t address = m->count > 0 ? (uintptr_t)m->live[pick(m, m->count)].object : 0,
              page = address & ~(uintptr_t)4095;
    switch (pick(m, 6)) {
    case 0: address += 1 + pick(m, 63); break;
    case 1: address = (uintptr_t)(random_word(&m->source) >> pick(m, 60)); break;
    case 2: address = page + pick(m, 4096); break;
    case 3: address = page + 8 * pick(m, 512); break;
    default: break;
    }
    void *object = (void *)address;
    random_layout(m, &size, &align);
    slabmalloc_status expected = shadow_judge(m->shadow, object, size, align);
    if (expected == SLABMALLOC_OK) /* by chance it is right */
        return;
    check_status(free_in_zone(m, object, size, align, pick(m, 2) == 0), expected, __FILE__, __LINE__, "a wrong free");
}

static void free_many(model *m)
{
    void *objects[MANY];
    size_t count = 0, wanted = pick(m, MANY), chosen[MANY];
    if (m->count == 0)
        return;
    size_t first = pick(m, m->count), size = m->live[first].size, align = m->live[first].align;
    int class_index = shadow_class_of(m->shadow, size, align);
    for (size_t i = 0; i < m->count && count < wanted; i++) {
        size_t j = (first + i) % m->count;
        if (shadow_class_of(m->shadow, m->live[j].size, m->live[j].align) == class_index) {
            chosen[count] = j;
            objects[count++] = m->live[j].object;
        }
    }
    size_t bad = SIZE_MAX, expected_bad = SIZE_MAX;
    slabmalloc_status expected = SLABMALLOC_OK;
    if (count > 1 && pick(m, 3) == 0) {
        size_t at = pick(m, count);
        objects[at] = pick(m, 2) == 0 ? objects[pick(m, count)] : m->live[pick(m, m->count)].object + pick(m, 3);
    }
    for (size_t i = 0; i < count && expected == SLABMALLOC_OK; i++) {
        expected = shadow_judge(m->shadow, objects[i], size, align);
        for (size_t j = 0; j < i && expected == SLABMALLOC_OK; j++)
            if (objects[j] == objects[i])
                expected = SLABMALLOC_FREE_DOUBLE;
        if (expected != SLABMALLOC_OK)
            expected_bad = i;
    }
    for (size_t i = 0; i < count && expected == SLABMALLOC_OK; i++) /* a fault that happens to be another live object */
        if (objects[i] != m->live[chosen[i]].object)
            return;
    check_status(slabmalloc_zone_deallocate_many(m->zone, objects, count, size, align, &bad), expected, __FILE__,
                 __LINE__, "deallocate_many");
    if (expected != SLABMALLOC_OK) {
        CHECK_EQUAL(bad, expected_bad);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        shadow_deallocate(m->shadow, objects[i], false);
        m->live[chosen[i]].object = NULL;
    }
    for (size_t i = 0; i < m->count;)
        if (m->live[i].object == NULL)
            m->live[i] = m->live[--m->count];
        else
            i++;
}

static void refill(model *m)
{
    if (m->pager != NULL)
        return;
    size_t size, align;
    random_layout(m, &size, &align);
    int class_index = shadow_class_of(m->shadow, size, align);
    size_t page_bytes = class_index >= 0 ? class_page_bytes(&m->shadow->table, (uint32_t)class_index) : 4096;
    char *page = m->arena + 16384 * pick(m, MAX_PAGES) + (page_bytes == 4096 ? 4096 * pick(m, 4) : 0);
    slabmalloc_status expected = SLABMALLOC_OK;
    if (class_index < 0)
        expected = SLABMALLOC_INVALID_LAYOUT;
    else if (shadow_overlaps(m->shadow, page, page_bytes))
        expected = SLABMALLOC_PAGE_IN_USE;
    check_status(slabmalloc_zone_refill(m->zone, size, align, page, page_bytes), expected, __FILE__, __LINE__,
                 "refill");
    if (expected == SLABMALLOC_OK)
        shadow_refill(m->shadow, class_index, page);
}

static void expect_page(void *context, void *page, size_t page_bytes)
{
    model *m = context;
    shadow_slab *slab = shadow_find(m->shadow, page);
    REQUIRE(slab != NULL);
    CHECK_POINTER(page, slab->page);
    CHECK_EQUAL(slab->free_count, slab->capacity);
    CHECK_EQUAL(page_bytes, slab->page_bytes);
    shadow_remove(m->shadow, slab);
    if (m->pager != NULL)
        test_pager_release(m->pager, page, page_bytes);
}

static char *expected_pages[TEST_PAGER_PAGES];
static size_t expected_count;

static void expect_page_in_order(void *context, void *page, size_t page_bytes)
{
    CHECK_POINTER(page, expected_pages[expected_count++]);
    expect_page(context, page, page_bytes);
}

static void reclaim(model *m)
{
    int class_index = pick(m, 2) == 0 ? -1 : (int)pick(m, CLASSES);
    size_t page_bytes = pick(m, 2) == 0 ? 4096 : 16384, wanted = pick(m, 6), count = 0;
    /* Reclaim collects what it looks at; which other classes it collects is not promised. */
    CHECK_EQUAL(slabmalloc_zone_collect(m->zone), shadow_collect_all(m->shadow));
    /* The order in which the shadow would give back; its slabs are put back as they were by pushing in reverse. */
    shadow_slab *taken[8];
    bool was_current[8];
    while (count < wanted) {
        shadow_slab *slab = shadow_reclaimable(m->shadow, class_index, page_bytes);
        if (slab == NULL)
            break;
        was_current[count] = slab->list == SHADOW_CURRENT;
        expected_pages[count] = slab->page;
        shadow_unlink(m->shadow, slab);
        taken[count++] = slab;
    }
    for (size_t i = count; i-- > 0;) {
        if (was_current[i])
            m->shadow->classes[taken[i]->class_index].current = taken[i];
        else
            shadow_push(m->shadow, taken[i]);
    }
    expected_count = 0;
    CHECK_EQUAL(slabmalloc_zone_reclaim(m->zone, class_index, page_bytes, wanted, expect_page_in_order, m), count);
    CHECK_EQUAL(expected_count, count);
}

static void step(model *m, size_t number)
{
    size_t grow = number / 1000 % 2 == 0 ? 45 : 25, choice = pick(m, 100);
    if (m->pager != NULL)
        m->pager->fail_to = number / 500 % 4 == 3 ? SIZE_MAX : 0; /* a quarter of the time there is no memory */
    if (choice < grow)
        allocate_one(m);
    else if (choice < 70)
        free_one(m);
    else if (choice < 80)
        free_wrongly(m);
    else if (choice < 84)
        allocate_many(m);
    else if (choice < 88)
        free_many(m);
    else if (choice < 94)
        refill(m);
    else if (choice < 96)
        reclaim(m);
    else if (choice < 98)
        CHECK_EQUAL(slabmalloc_zone_collect(m->zone), shadow_collect_all(m->shadow));
    else
        CHECK_SOUND(m->zone);
}

static size_t steps_wanted;
static uint64_t first_seed;

static void run_model(uint64_t seed, bool with_pager, bool unowned)
{
    check_seed = seed;
    static model m;
    memset(&m, 0, sizeof m);
    m.source = random_from(seed);
    m.unowned = unowned;
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    options.classes = classes_of(4096, 16384, 256, table, CLASSES);
    options.unowned = unowned;
    m.arena = memory_new(16384 * MAX_PAGES, 16384);
    slabmalloc_pager calls;
    if (with_pager) {
        m.pager = test_pager_new();
        m.pager->max_pages = 60;
        calls = test_pager_of(m.pager);
        options.pager = &calls;
    }
    m.zone = zone_new(&options);
    m.shadow = shadow_new(&options.classes);
    printf("model: seed %" PRIu64 ", %zu steps, %s, %s\n", seed, steps_wanted,
           with_pager ? "with a pager" : "pages by hand", unowned ? "with remote frees" : "owned");
    for (size_t number = 0; number < steps_wanted && atomic_load(&check_failures) == 0; number++) {
        step(&m, number);
        if (number < 200 || number % 16 == 0)
            shadow_compare(m.shadow, m.zone, number % 256 == 0);
        if (atomic_load(&check_failures) != 0)
            printf("at step %zu\n", number);
    }
    slabmalloc_zone_destroy(m.zone);
    shadow_end(m.shadow);
    if (with_pager)
        test_pager_end(m.pager);
    memory_free(m.arena, 16384 * MAX_PAGES);
}

static void pages_by_hand(void) { run_model(first_seed, false, false); }
static void pages_from_a_pager(void) { run_model(first_seed + 1, true, false); }
static void by_hand_with_remote_frees(void) { run_model(first_seed + 2, false, true); }
static void pager_with_remote_frees(void) { run_model(first_seed + 3, true, true); }

int main(int argc, char **argv)
{
    steps_wanted = argc > 1 ? (size_t)strtoull(argv[1], NULL, 0) : setting("SLABMALLOC_MODEL_STEPS", 10000);
    first_seed = argc > 2 ? strtoull(argv[2], NULL, 0) : setting("SLABMALLOC_MODEL_SEED", 1);
    RUN(pages_by_hand);
    RUN(pages_from_a_pager);
    RUN(by_hand_with_remote_frees);
    RUN(pager_with_remote_frees);
    return check_finish();
}
