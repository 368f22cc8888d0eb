/* SPDX-License-Identifier: MIT
 *
 * Bytes become operations on a zone and on its shadow (tests/c/shadow.h), which must agree after each one: statuses,
 * addresses, statistics, audit. The first bytes choose the zone; then each operation takes what it needs.
 *
 *     tools/ci/fuzz.sh 600 zone
 *
 * Two ways to compare. Exact: the next address is predicted. Loose, for what the shadow does not model (random start,
 * the order of slabs after a restore): the address may be any free slot of the class, and every slot's state is
 * compared.
 */
#include "input.h"
#include "shadow.h"

enum { UNIT = 16384, UNITS = 24, MAX_LIVE = 4096, MANY = 96, TABLES = 3, MAX_STEPS = 1500 };

static const uint32_t sizes[TABLES][6] = {
    {8, 16, 64, 256, 1024, 4096}, {8, 24, 200, 256, 4048, 16336}, {16, 48, 128, 144, 8168, 16000}};

typedef struct fuzz {
    input in;
    slabmalloc_zone_options options;
    slabmalloc_pager pager;
    slabmalloc_zone *zone;
    shadow *shadow;
    bool is_exact, has_pager, pager_fails;
    uint32_t pages_out; /* of the pager, a bit per unit */
    char *last_page;    /* that the pager gave */
    size_t count;
    struct {
        char *object;
        size_t size;
    } live[MAX_LIVE];
} fuzz;

static char *memory; /* UNITS x UNIT, aligned to UNIT */

/* ---- the pager: units of `memory`, the lowest that is nobody's ---- */

static void *pager_allocate(void *context, size_t page_bytes)
{
    fuzz *f = context;
    CHECK(page_bytes == 4096 || page_bytes == UNIT);
    for (size_t i = 0; i < UNITS && !f->pager_fails; i++)
        if ((f->pages_out >> i & 1) == 0) {
            f->pages_out |= 1u << i;
            return f->last_page = memory + UNIT * i;
        }
    return NULL;
}

static void pager_release(void *context, void *page, size_t page_bytes)
{
    fuzz *f = context;
    size_t unit = (size_t)((char *)page - memory) / UNIT;
    CHECK(page_bytes == 4096 || page_bytes == UNIT);
    CHECK((f->pages_out >> unit & 1) != 0);
    f->pages_out &= ~(1u << unit);
}

/* ---- the shadow ---- */

/* A page has come in: as refill does it, or with the free slots that the zone tells of. */
static shadow_slab *shadow_join(fuzz *f, int class_index, void *page)
{
    shadow_slab *slab = shadow_refill(f->shadow, class_index, page);
    size_t capacity = slabmalloc_sc_objects_per_page(slabmalloc_zone_sc(f->zone, class_index));
    if (!f->options.metadata_apart)
        CHECK_EQUAL(slab->capacity, capacity);
    if (slab->capacity != capacity) { /* meta-data apart: more may fit */
        shadow_unlink(f->shadow, slab);
        free(slab->slots);
        slab->slots = calloc(capacity, 1);
        REQUIRE(slab->slots != NULL);
        slab->capacity = slab->free_count = capacity;
        shadow_push(f->shadow, slab);
    }
    return slab;
}

static void relist_loosely(fuzz *f, shadow_slab *slab)
{
    shadow_unlink(f->shadow, slab);
    shadow_push(f->shadow, slab);
}

/* A slot that the zone has handed out, or found live, whatever the shadow expected. */
static void mark_live(fuzz *f, shadow_slab *slab, size_t slot)
{
    CHECK_EQUAL(slab->slots[slot], SLOT_FREE);
    slab->slots[slot] = SLOT_LIVE;
    slab->free_count--;
    relist_loosely(f, slab);
}

static bool has_free_slot(const fuzz *f, int class_index)
{
    for (const shadow_slab *slab = f->shadow->all; slab != NULL; slab = slab->all)
        if (slab->class_index == (uint32_t)class_index && slab->free_count > 0)
            return true;
    return false;
}

/* From here on the order of slabs is not known. */
static void become_loose(fuzz *f)
{
    if (!f->is_exact)
        return;
    slabmalloc_zone_collect(f->zone);
    shadow_collect_all(f->shadow);
    f->is_exact = false;
    for (uint32_t i = 0; i < f->shadow->table.count; i++) {
        shadow_slab *current = f->shadow->classes[i].current;
        if (current != NULL)
            relist_loosely(f, current);
    }
}

static void note_live(fuzz *f, void *object, size_t size)
{
    f->live[f->count].object = object;
    f->live[f->count++].size = size;
}

/* ---- operations ---- */

static void next_layout(fuzz *f, size_t *size, size_t *align)
{
    static const size_t odd_sizes[] = {0, 16337, SIZE_MAX, SIZE_MAX - 7}, odd_aligns[] = {0, 3, 24, (size_t)1 << 63};
    uint8_t choice = next_byte(&f->in);
    const slabmalloc_size_classes *classes = &f->options.classes;
    *size = classes->sizes[choice % 6] - next_below(&f->in, 8);
    *align = choice < 200 ? 1 : (size_t)1 << next_below(&f->in, 16);
    if (choice >= 250) {
        *size = odd_sizes[choice % 4];
    } else if (choice >= 245) {
        *align = odd_aligns[choice % 4];
    }
}

/* Compares what the zone returned with what may come, and notes it. */
static void accept_object(fuzz *f, void *object, int class_index, size_t size, size_t align, bool took_page)
{
    if (took_page) {
        CHECK(class_index >= 0 &&
              (f->is_exact ? shadow_is_dry(f->shadow, class_index) : !has_free_slot(f, class_index)));
        shadow_join(f, class_index, f->last_page);
    }
    if (f->is_exact) {
        CHECK_POINTER(object, shadow_allocate(f->shadow, class_index));
    } else if (object == NULL) {
        CHECK(class_index < 0 || !has_free_slot(f, class_index));
    } else {
        shadow_slab *slab = shadow_find(f->shadow, object);
        if (CHECK(slab != NULL && slab->class_index == (uint32_t)class_index &&
                  shadow_judge(f->shadow, object, size, align) == SLABMALLOC_FREE_DOUBLE))
            mark_live(f, slab, (size_t)((char *)object - slab->page) / slab->object_bytes);
    }
    if (object == NULL)
        return;
    CHECK_EQUAL((uintptr_t)object % align, 0);
    if (!f->options.metadata_apart)
        memset(object, 0xEE, size);
    note_live(f, object, f->options.classes.sizes[class_index]);
}

static void allocate(fuzz *f)
{
    size_t size, align;
    next_layout(f, &size, &align);
    if (f->count == MAX_LIVE)
        return;
    int class_index = shadow_class_of(f->shadow, size, align);
    CHECK_EQUAL(slabmalloc_zone_class_of(f->zone, size, align), class_index);
    f->last_page = NULL;
    void *object = slabmalloc_zone_allocate(f->zone, size, align);
    accept_object(f, object, class_index, size, align, f->last_page != NULL);
}

static void allocate_many(fuzz *f)
{
    size_t size, align, wanted = next_below(&f->in, MANY);
    next_layout(f, &size, &align);
    int class_index = shadow_class_of(f->shadow, size, align);
    if (f->has_pager) /* one page at most, so that the shadow can follow */
        wanted = class_index < 0
                     ? wanted
                     : wanted % (1 + slabmalloc_sc_objects_per_page(slabmalloc_zone_sc(f->zone, class_index)));
    if (f->count + wanted > MAX_LIVE)
        return;
    void *objects[MANY];
    f->last_page = NULL;
    size_t got = slabmalloc_zone_allocate_many(f->zone, size, align, objects, wanted);
    CHECK(got <= wanted);
    for (size_t i = 0; i < got; i++) {
        bool took_page =
            f->last_page != NULL && (char *)objects[i] >= f->last_page && (char *)objects[i] < f->last_page + UNIT;
        accept_object(f, objects[i], class_index, size, align, took_page);
        if (took_page)
            f->last_page = NULL;
    }
    if (got < wanted)
        accept_object(f, NULL, class_index, size, align, false);
}

static slabmalloc_status free_in_zone(fuzz *f, void *object, size_t size, size_t align, bool is_remote)
{
    return is_remote || !f->options.unowned ? slabmalloc_zone_deallocate(f->zone, object, size, align)
                                            : slabmalloc_zone_deallocate_owned(f->zone, object, size, align);
}

static void forget(fuzz *f, size_t i) { f->live[i] = f->live[--f->count]; }

static void free_one(fuzz *f)
{
    if (f->count == 0)
        return;
    size_t i = next_below(&f->in, f->count);
    bool is_remote = f->options.unowned && next_byte(&f->in) % 2 == 0;
    char *object = f->live[i].object;
    if (is_remote && f->is_exact && shadow_must_collect(f->shadow, object))
        CHECK_EQUAL(slabmalloc_zone_collect(f->zone), shadow_collect_all(f->shadow));
    CHECK_OK(free_in_zone(f, object, f->live[i].size, 1, is_remote));
    shadow_deallocate(f->shadow, object, is_remote && f->is_exact);
    forget(f, i);
}

static char *next_address(fuzz *f)
{
    char *object = f->count > 0 ? f->live[next_below(&f->in, f->count)].object : memory;
    switch (next_byte(&f->in) % 5) {
    case 0: return object;
    case 1: return object + next_below(&f->in, 4096);
    case 2: return memory + 8 * next_below(&f->in, 65536) % (UNIT * UNITS);
    case 3: return (char *)((uintptr_t)object & ~(uintptr_t)4095) + 4096 - next_below(&f->in, 600);
    default: return (char *)((uintptr_t)next_byte(&f->in) << next_below(&f->in, 57));
    }
}

static void free_wrongly(fuzz *f)
{
    size_t size, align;
    char *object = next_address(f);
    next_layout(f, &size, &align);
    slabmalloc_status expected = shadow_judge(f->shadow, object, size, align);
    if (expected != SLABMALLOC_OK)
        check_status(free_in_zone(f, object, size, align, next_byte(&f->in) % 2 == 0), expected, __FILE__, __LINE__,
                     "a wrong free");
}

static void free_many(fuzz *f)
{
    void *objects[MANY];
    size_t chosen[MANY], count = 0, wanted = next_below(&f->in, MANY), bad = SIZE_MAX, expected_bad = SIZE_MAX;
    if (f->count == 0)
        return;
    size_t first = next_below(&f->in, f->count), size = f->live[first].size;
    int class_index = shadow_class_of(f->shadow, size, 1);
    for (size_t i = 0; i < f->count && count < wanted; i++) {
        size_t j = (first + i) % f->count;
        if (shadow_class_of(f->shadow, f->live[j].size, 1) == class_index) {
            chosen[count] = j;
            objects[count++] = f->live[j].object;
        }
    }
    uint8_t fault = next_byte(&f->in);
    if (count > 0 && fault < 64)
        objects[fault % count] = fault < 32 ? next_address(f) : objects[next_byte(&f->in) % count];
    slabmalloc_status expected = SLABMALLOC_OK;
    for (size_t i = 0; i < count && expected == SLABMALLOC_OK; i++) {
        expected = shadow_judge(f->shadow, objects[i], size, 1);
        for (size_t j = 0; j < i && expected == SLABMALLOC_OK; j++)
            if (objects[j] == objects[i])
                expected = SLABMALLOC_FREE_DOUBLE;
        expected_bad = i;
    }
    for (size_t i = 0; i < count && expected == SLABMALLOC_OK; i++)
        if (objects[i] != f->live[chosen[i]].object) /* by chance another live object */
            return;
    check_status(slabmalloc_zone_deallocate_many(f->zone, objects, count, size, 1, &bad), expected, __FILE__, __LINE__,
                 "deallocate_many");
    if (expected != SLABMALLOC_OK) {
        CHECK_EQUAL(bad, expected_bad);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        shadow_deallocate(f->shadow, objects[i], false);
        f->live[chosen[i]].object = NULL;
    }
    for (size_t i = 0; i < f->count;)
        if (f->live[i].object == NULL)
            forget(f, i);
        else
            i++;
}

static void refill(fuzz *f)
{
    if (f->has_pager)
        return;
    size_t size, align;
    next_layout(f, &size, &align);
    int class_index = shadow_class_of(f->shadow, size, align);
    size_t page_bytes = class_index >= 0 ? class_page_bytes(&f->options.classes, (uint32_t)class_index) : 4096;
    uint8_t odd = next_byte(&f->in);
    char *page = memory + UNIT * next_below(&f->in, UNITS) + (page_bytes == 4096 ? 4096 * (odd % 4) : 0);
    slabmalloc_status expected = SLABMALLOC_OK;
    if (class_index < 0) {
        expected = SLABMALLOC_INVALID_LAYOUT;
    } else if (odd >= 240) {
        page_bytes *= 2;
        expected = SLABMALLOC_PAGE_SIZE;
    } else if (odd >= 224) {
        page = odd == 224 ? NULL : page + 8;
        expected = SLABMALLOC_PAGE_MISALIGNED;
    } else if (shadow_overlaps(f->shadow, page, page_bytes)) {
        expected = SLABMALLOC_PAGE_IN_USE;
    } else if (!f->options.metadata_apart) {
        memset(page + page_bytes - 32, 0, 32); /* whatever lay here: no slab that still counts */
    }
    check_status(slabmalloc_zone_refill(f->zone, size, align, page, page_bytes), expected, __FILE__, __LINE__,
                 "refill");
    if (expected == SLABMALLOC_OK)
        shadow_join(f, class_index, page);
}

static void check_reclaimed(void *context, void *page, size_t page_bytes)
{
    fuzz *f = context;
    shadow_slab *slab = shadow_find(f->shadow, page);
    if (!CHECK(slab != NULL && slab->page == page && slab->page_bytes == page_bytes))
        return;
    CHECK_EQUAL(slab->free_count, slab->capacity);
    if (f->is_exact)
        CHECK_POINTER(slab, shadow_reclaimable(f->shadow, (int)slab->class_index, page_bytes));
    shadow_remove(f->shadow, slab);
    if (f->has_pager)
        pager_release(f, page, page_bytes);
}

static void reclaim(fuzz *f)
{
    int class_index = (int)next_below(&f->in, 7) - 1;
    size_t page_bytes = next_byte(&f->in) % 2 == 0 ? 4096 : UNIT, wanted = next_below(&f->in, 5), possible = 0;
    size_t collected = slabmalloc_zone_collect(f->zone), expected = shadow_collect_all(f->shadow);
    if (f->is_exact)
        CHECK_EQUAL(collected, expected);
    for (const shadow_slab *slab = f->shadow->all; slab != NULL; slab = slab->all)
        possible += slab->free_count == slab->capacity && slab->page_bytes == page_bytes &&
                    (class_index < 0 || slab->class_index == (uint32_t)class_index);
    CHECK_EQUAL(slabmalloc_zone_reclaim(f->zone, class_index, page_bytes, wanted, check_reclaimed, f),
                wanted < possible ? wanted : possible);
}

static void compare(fuzz *f, bool with_slots)
{
    if (f->is_exact) {
        shadow_compare(f->shadow, f->zone, with_slots);
        return;
    }
    size_t live = 0;
    for (const shadow_slab *slab = f->shadow->all; slab != NULL; slab = slab->all) {
        live += slab->capacity - slab->free_count;
        for (size_t i = 0; i < slab->capacity && with_slots; i++) {
            slabmalloc_slot_info info = slabmalloc_zone_inspect(f->zone, slab->page + i * slab->object_bytes);
            CHECK_EQUAL(info.is_live, slab->slots[i] == SLOT_LIVE);
        }
    }
    CHECK_EQUAL(slabmalloc_zone_stats(f->zone, -1).live_objects, live);
    CHECK_CONSERVED(f->zone);
}

static void check_detached(void *context, void *page, size_t page_bytes, size_t live)
{
    fuzz *f = context;
    const shadow_slab *slab = shadow_find(f->shadow, page);
    if (CHECK(slab != NULL && slab->page == page && slab->page_bytes == page_bytes))
        CHECK_EQUAL(live, slab->capacity - slab->free_count - slab->remote_count);
}

/* The zone ends, its pages are damaged in some places or in none, and a new zone restores what it can. */
static void detach_and_restore(fuzz *f)
{
    if (f->options.metadata_apart)
        return;
    become_loose(f);
    slabmalloc_zone_detach(f->zone, check_detached, f);
    shadow *before = f->shadow;
    f->zone = zone_new(&f->options);
    f->shadow = shadow_new(&f->options.classes);
    f->count = 0;
    for (const shadow_slab *old = before->all; old != NULL; old = old->all) {
        size_t live = old->capacity - old->free_count, damages = next_byte(&f->in),
               unit = (size_t)(old->page - memory) / UNIT;
        page_layout layout = page_layout_of(old->object_bytes, old->page_bytes);
        damages = damages < 128 ? 0 : 1 + damages % 4;
        for (size_t i = 0; i < damages; i++)
            old->page[layout.local + next_below(&f->in, old->page_bytes - layout.local)] ^= (char)next_byte(&f->in);
        slabmalloc_status status = slabmalloc_zone_restore(f->zone, old->page, old->page_bytes);
        if (damages == 0) /* a page without live objects has been wiped */
            check_status(status, live > 0 ? SLABMALLOC_OK : SLABMALLOC_PAGE_UNREADABLE, __FILE__, __LINE__, "restore");
        if (status != SLABMALLOC_OK) {
            CHECK(status == SLABMALLOC_PAGE_UNREADABLE || status == SLABMALLOC_PAGE_CLASS);
            if (f->has_pager)
                f->pages_out &= ~(1u << unit);
            memset(old->page + old->page_bytes - 32, 0, 32);
            continue;
        }
        CHECK_STATUS(slabmalloc_zone_restore(f->zone, old->page, old->page_bytes), PAGE_IN_USE);
        shadow_slab *slab = shadow_join(f, (int)old->class_index, old->page);
        for (size_t i = 0; i < slab->capacity; i++) {
            bool is_live = slabmalloc_zone_inspect(f->zone, slab->page + i * slab->object_bytes).is_live;
            if (damages == 0)
                CHECK_EQUAL(is_live, old->slots[i] == SLOT_LIVE);
            if (!is_live)
                continue;
            mark_live(f, slab, i);
            if (f->count < MAX_LIVE)
                note_live(f, slab->page + i * slab->object_bytes, slab->object_bytes);
        }
    }
    shadow_end(before);
}

static void step(fuzz *f)
{
    uint8_t choice = next_byte(&f->in);
    switch (choice % 16) {
    case 0:
    case 1:
    case 2:
    case 3: allocate(f); break;
    case 4:
    case 5:
    case 6: free_one(f); break;
    case 7: free_wrongly(f); break;
    case 8: allocate_many(f); break;
    case 9: free_many(f); break;
    case 10:
    case 11: refill(f); break;
    case 12: reclaim(f); break;
    case 13:
        if (f->is_exact)
            CHECK_EQUAL(slabmalloc_zone_collect(f->zone), shadow_collect_all(f->shadow));
        else
            slabmalloc_zone_collect(f->zone);
        break;
    case 14: compare(f, true); break;
    default:
        if (choice < 64)
            detach_and_restore(f);
        else
            f->pager_fails = choice < 160;
        break;
    }
    CHECK_SOUND(f->zone);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static fuzz f;
    if (memory == NULL)
        memory = memory_new(UNIT * UNITS, UNIT);
    memset(&f, 0, sizeof f);
    f.in = (input){bytes, size};
    uint8_t choice = next_byte(&f.in);
    f.options = slabmalloc_zone_options_default();
    f.options.classes = classes_of(4096, UNIT, 256, sizes[choice % TABLES], 6);
    f.options.unowned = (choice & 8) != 0;
    f.options.metadata_apart = (choice & 16) != 0;
    f.options.random_start = (choice & 32) != 0;
    f.options.seed = next_byte(&f.in);
    f.has_pager = (choice & 64) != 0;
    f.is_exact = !f.options.random_start;
    f.pager = (slabmalloc_pager){pager_allocate, pager_release, &f};
    f.options.pager = f.has_pager ? &f.pager : NULL;
    memset(memory, 0, UNIT * UNITS);
    f.zone = zone_new(&f.options);
    f.shadow = shadow_new(&f.options.classes);
    stop_on_failure(&f.in);
    for (size_t steps = 0; f.in.left > 0 && steps < MAX_STEPS; steps++) {
        step(&f);
        if (steps % 16 == 15)
            compare(&f, false);
        stop_on_failure(&f.in);
    }
    compare(&f, true);
    slabmalloc_zone_destroy(f.zone);
    CHECK_EQUAL(f.pages_out, 0);
    stop_on_failure(&f.in);
    shadow_end(f.shadow);
    return 0;
}
