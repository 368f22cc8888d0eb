/* SPDX-License-Identifier: MIT
 *
 * Transparent huge pages: what the machine's settings mean, huge pages that are cut before a part of them goes back,
 * and a heap in them: its memory is huge, goes back by whole ones or not at all, and what the books say is what the
 * kernel says. Where the machine has none, only the books are examined.
 */
#include "limits.h"
#include "space_fixture.h"

/* ---- settings ---- */

static void settings_are_read_as_the_kernel_writes_them(void)
{
    CHECK_EQUAL(huge_setting_of("[always] madvise never\n", HUGE_NEVER), HUGE_ALWAYS);
    CHECK_EQUAL(huge_setting_of("always [madvise] never\n", HUGE_NEVER), HUGE_ADVISED);
    CHECK_EQUAL(huge_setting_of("always madvise [never]\n", HUGE_ALWAYS), HUGE_NEVER);
    CHECK_EQUAL(huge_setting_of("always [inherit] madvise never\n", HUGE_ALWAYS), HUGE_ALWAYS);
    CHECK_EQUAL(huge_setting_of("always [inherit] madvise never\n", HUGE_NEVER), HUGE_NEVER);
    CHECK_EQUAL(huge_setting_of("always inherit [madvise] never\n", HUGE_ALWAYS), HUGE_ADVISED);
    CHECK_EQUAL(huge_setting_of("", HUGE_ALWAYS), HUGE_NEVER);
}

static void check_use(huge_machine machine, bool is_wanted, huge_use expected, bool is_refused)
{
    huge_use use;
    const char *refusal = huge_use_of(&use, &machine, is_wanted);
    CHECK_EQUAL(use.bytes, expected.bytes);
    CHECK_EQUAL(use.is_wanted, expected.is_wanted);
    CHECK_EQUAL(use.is_unasked, expected.is_unasked);
    CHECK_EQUAL(refusal != NULL, is_refused);
}

static void what_follows_from_a_setting(void)
{
    static const size_t too_large = (size_t)512 << 20;
    check_use((huge_machine){HUGE_BYTES, HUGE_NEVER}, false, no_huge_pages, false);
    check_use((huge_machine){HUGE_BYTES, HUGE_NEVER}, true, no_huge_pages, true);
    check_use((huge_machine){HUGE_BYTES, HUGE_ADVISED}, false, advised_huge_pages, false);
    check_use((huge_machine){HUGE_BYTES, HUGE_ADVISED}, true, wanted_huge_pages, false);
    check_use((huge_machine){HUGE_BYTES, HUGE_ALWAYS}, false, unasked_huge_pages, false);
    check_use((huge_machine){HUGE_BYTES, HUGE_ALWAYS}, true, (huge_use){HUGE_BYTES, true, true}, false);
    check_use((huge_machine){too_large, HUGE_ADVISED}, false, (huge_use){too_large, false, false}, false);
    check_use((huge_machine){too_large, HUGE_ALWAYS}, true, (huge_use){too_large, false, true}, true);
}

/* ---- huge pages and parts of them ---- */

enum { PAGES = 24 };

/* So many huge pages of memory, touched. */
static char *huge_pages_new(size_t count)
{
    char *memory = memory_new(count * HUGE_BYTES, HUGE_BYTES);
    REQUIRE(slabmalloc_os_advise_huge(memory, count * HUGE_BYTES) == 0);
    for (size_t i = 0; i < count * HUGE_BYTES; i += 4096)
        memory[i] = (char)(i / 4096 % 100 + 1);
    return memory;
}

static void purge_parts(bool is_cut)
{
    char *memory = huge_pages_new(PAGES);
    for (char *page = memory; page < memory + PAGES * HUGE_BYTES; page += HUGE_BYTES) {
        if (is_cut)
            huge_cut((uintptr_t)page + 4096);
        CHECK_EQUAL(slabmalloc_os_purge(page + 4096, HUGE_BYTES - 4096), 0);
        CHECK_EQUAL(page[0], 1 + (page - memory) / 4096 % 100);
        CHECK_EQUAL(page[4096] + page[HUGE_BYTES - 1], 0);
    }
    memory_free(memory, PAGES * HUGE_BYTES);
}

static void purge_parts_that_are_cut(void) { purge_parts(true); }

/* How much of PAGES huge pages the system has, now. */
static size_t granted_bytes(void)
{
    char *memory = huge_pages_new(PAGES);
    size_t bytes = huge_bytes_of(memory, PAGES * HUGE_BYTES);
    memory_free(memory, PAGES * HUGE_BYTES);
    return bytes;
}

static void a_huge_page_that_is_cut_goes_back_in_parts(void)
{
    size_t granted = has_huge_pages() ? granted_bytes() : 0;
    if (granted < PAGES * HUGE_BYTES / 2)
        return;
    /* The trap is there, and this test sees it. */
    size_t before = parts_given_back();
    purge_parts(false);
    CHECK(parts_given_back() - before >= granted / HUGE_BYTES / 2);
    CHECK_NONE_IN_PART(purge_parts_that_are_cut);
}

/* ---- large objects ---- */

static const huge_use *use; /* of the tests to come */

static large_space *large_new(void)
{
    large_space *l = calloc(1, sizeof *l);
    REQUIRE(l != NULL && large_init(l, use, false));
    return l;
}

static void large_delete(large_space *l)
{
    CHECK(large_is_valid(l));
    large_end(l);
    free(l);
}

/* As NumPy does it: from the second OS page on. */
static char *advised_new(large_space *l, size_t bytes, bool is_advised)
{
    char *object = large_allocate(l, bytes, 16, &(bool){false});
    REQUIRE(object != NULL);
    if (is_advised)
        slabmalloc_os_advise_huge(object + 4096, bytes - 4096);
    stamp(object, bytes, bytes);
    return object;
}

static const size_t odd_sizes[] = {
    HUGE_BYTES,     HUGE_BYTES + 4096,      3 * HUGE_BYTES - 4096, 7 * HUGE_BYTES / 2,
    4 * HUGE_BYTES, 9 * HUGE_BYTES + 40960, HUGE_BYTES / 2 + 4096, 5 * HUGE_BYTES + 70000};
enum { ODD_SIZES = sizeof odd_sizes / sizeof *odd_sizes };

/* What rests goes back bit by bit, and is used again in between. */
static void large_objects_rest_and_decay(void)
{
    large_space *l = large_new();
    char *objects[ODD_SIZES];
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < ODD_SIZES; i++)
            objects[i] = advised_new(l, odd_sizes[i], true);
        for (size_t i = 0; i < ODD_SIZES; i++) {
            CHECK(is_stamped(objects[i], odd_sizes[i], odd_sizes[i]));
            large_rest rest = {.bound_bytes = SIZE_MAX, .now_ms = i};
            CHECK(large_free(l, objects[i], &rest));
        }
        for (int steps = 0; large_decay(l, ODD_SIZES); steps++) {
            CHECK(large_is_valid(l));
            if (steps % 5 != 3 || steps > 30)
                continue;
            char *again = advised_new(l, odd_sizes[5], false);
            CHECK(is_stamped(again, odd_sizes[5], odd_sizes[5]));
            large_rest rest = {.bound_bytes = SIZE_MAX, .now_ms = 0};
            CHECK(large_free(l, again, &rest));
        }
        CHECK_EQUAL(l->resting_bytes, 0);
    }
    large_delete(l);
}

static void large_objects_are_resized(void)
{
    large_space *l = large_new();
    for (size_t i = 0; i < ODD_SIZES; i++)
        for (size_t j = 0; j < ODD_SIZES; j++)
            for (int is_advised = 0; is_advised < 2; is_advised++) {
                char *object = advised_new(l, odd_sizes[i], is_advised != 0),
                     *neighbour = advised_new(l, 200 * KIB, false);
                size_t kept = odd_sizes[j] < odd_sizes[i] ? odd_sizes[j] : odd_sizes[i];
                uint64_t given = l->given_back_bytes;
                size_t before = l->live_bytes;
                char *resized = large_resize(l, object, odd_sizes[j], &(size_t){0});
                if (resized != NULL) {
                    CHECK(is_stamped(resized, kept, odd_sizes[i]));
                    CHECK(large_usable_bytes(l, resized) - odd_sizes[j] < 4096);
                    CHECK_EQUAL(l->given_back_bytes - given, before > l->live_bytes ? before - l->live_bytes : 0);
                    stamp(resized, odd_sizes[j], 5);
                    object = resized;
                } else {
                    CHECK(is_advised && odd_sizes[j] > odd_sizes[i]); /* several mappings, which don't move as one */
                }
                large_rest rest = {.bound_bytes = 0, .now_ms = 0};
                CHECK(large_free(l, object, &rest));
                CHECK(large_free(l, neighbour, &rest));
            }
    large_delete(l);
}

/* Where a block does not end with a huge page something else may lie in its last one: as if the system gave both of
 * them huge pages unasked. */
static void large_objects_end_in_a_neighbours_huge_page(void)
{
    large_space *l = large_new();
    char *objects[ODD_SIZES], *neighbours[ODD_SIZES];
    for (size_t i = 0; i < ODD_SIZES; i++) {
        objects[i] = large_allocate(l, odd_sizes[i], 16, &(bool){false});
        size_t bytes = large_usable_bytes(l, objects[i]),
               beyond = (size_t)-((uintptr_t)objects[i] + bytes) % HUGE_BYTES;
        neighbours[i] = NULL;
        if (beyond == 0 || odd_sizes[i] < HUGE_BYTES)
            continue;
        neighbours[i] = mmap(objects[i] + bytes, beyond, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (neighbours[i] != objects[i] + bytes) { /* somebody lies there already */
            if (neighbours[i] != MAP_FAILED)
                munmap(neighbours[i], beyond);
            neighbours[i] = NULL;
            continue;
        }
        slabmalloc_os_advise_huge(objects[i], bytes + beyond);
        memset(objects[i], 1, bytes + beyond);
    }
    for (size_t i = 0; i < ODD_SIZES; i++) {
        large_rest rest = {.bound_bytes = i % 2 == 0 ? 0 : SIZE_MAX, .now_ms = 0};
        CHECK(large_free(l, objects[i], &rest));
    }
    while (large_decay(l, 1))
        ;
    for (size_t i = 0; i < ODD_SIZES; i++) {
        size_t beyond = (size_t)-(uintptr_t)neighbours[i] % HUGE_BYTES;
        if (neighbours[i] == NULL)
            continue;
        CHECK_EQUAL(neighbours[i][0] + neighbours[i][beyond - 1], 2);
        munmap(neighbours[i], beyond);
    }
    large_delete(l);
}

static void large_objects_never_go_back_in_part(void)
{
    static const huge_use *const uses[] = {&advised_huge_pages, &wanted_huge_pages, &unasked_huge_pages};
    for (size_t i = 0; i < 3; i++) {
        use = uses[i];
        if (!has_huge_pages()) {
            large_objects_rest_and_decay();
            large_objects_are_resized();
            return;
        }
        CHECK_NONE_IN_PART(large_objects_rest_and_decay);
        CHECK_NONE_IN_PART(large_objects_are_resized);
        CHECK_NONE_IN_PART(large_objects_end_in_a_neighbours_huge_page);
    }
}

/* Advised or not, and kept out where the system would do it unasked. */
static void large_objects_are_huge_if_so_wanted(void)
{
    if (!has_huge_pages())
        return;
    static const struct {
        const huge_use *use;
        bool is_huge, is_small_out;
    } rows[] = {{&no_huge_pages, false, false},
                {&advised_huge_pages, false, false},
                {&wanted_huge_pages, true, false},
                {&unasked_huge_pages, false, true}};
    for (size_t i = 0; i < 4; i++) {
        use = rows[i].use;
        large_space *l = large_new();
        char *small = advised_new(l, MIB, false), *large = advised_new(l, 5 * HUGE_BYTES + 4096, false);
        CHECK(use->bytes == 0 || (uintptr_t)large % HUGE_BYTES == 0);
        CHECK_EQUAL(all_flagged(large, 5 * HUGE_BYTES + 4096, " hg"), rows[i].is_huge);
        CHECK_EQUAL(all_flagged(small, MIB, " nh"), rows[i].is_small_out);
        CHECK(!all_flagged(large, 5 * HUGE_BYTES, " nh"));
        /* Across the length of a huge page, by one step and by another. */
        char *grown = large_resize(l, small, 3 * HUGE_BYTES, &(size_t){0});
        REQUIRE(grown != NULL);
        CHECK_EQUAL(all_flagged(grown, 3 * HUGE_BYTES, " hg"), rows[i].is_huge || rows[i].is_small_out);
        CHECK(!all_flagged(grown, 3 * HUGE_BYTES, " nh"));
        CHECK_POINTER(large_resize(l, grown, MIB, &(size_t){0}), grown);
        CHECK_EQUAL(all_flagged(grown, MIB, " nh"), rows[i].is_small_out);
        large_delete(l);
    }
}

/* Where it moves it takes its huge pages along. */
static void a_large_object_that_moves_stays_huge(void)
{
    if (!has_huge_pages())
        return;
    use = &wanted_huge_pages;
    large_space *l = large_new();
    size_t bytes = 8 * HUGE_BYTES;
    char *object = advised_new(l, bytes, false);
    size_t huge_bytes = huge_bytes_of(object, bytes);
    /* In its way. */
    char *wall =
        mmap(object + bytes, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    char *moved = large_resize(l, object, 2 * bytes, &(size_t){0});
    REQUIRE(moved != NULL);
    CHECK(moved != object);
    CHECK_EQUAL((uintptr_t)moved % HUGE_BYTES, 0);
    CHECK(is_stamped(moved, bytes, bytes));
    CHECK(huge_bytes_of(moved, 2 * bytes) >= huge_bytes);
    if (wall != MAP_FAILED)
        munmap(wall, 4096);
    large_delete(l);
}

/* ---- a heap ---- */

static space *space_with(bool is_wanted, huge_setting setting, uint32_t decay_ms)
{
    space_options options = space_options_default();
    options.reserve_bytes = 256 * (size_t)MIB;
    options.max_ranges = 1;
    options.decay_ms = decay_ms;
    options.huge_pages = is_wanted;
    options.machine = (huge_machine){HUGE_BYTES, setting};
    space *s = space_create(&options);
    REQUIRE(s != NULL);
    return s;
}

/* No more is resident than the books say, and all of that if the system had a huge page for each. */
static void check_resident(space *s)
{
    space_stats stats = space_statistics(s);
    const arena *a = &s->ranges[0].arena;
    size_t arena_bytes = (a->in_use_count + a->resting_count) * ARENA_UNIT_BYTES;
    CHECK_EQUAL(arena_bytes % HUGE_BYTES, 0);
    if (is_emulated())
        return;
    size_t resident = resident_of((void *)a->base, a->reserved_bytes);
    CHECK(resident <= arena_bytes);
    if (huge_bytes_of((void *)a->base, a->committed * ARENA_CHUNK_BYTES) >= resident)
        CHECK_EQUAL(resident, arena_bytes);
    CHECK_EQUAL(stats.live_bytes + stats.free_bytes + stats.tail_bytes + stats.resting_bytes, stats.mapped_bytes);
}

static uint32_t decay_ms;

/* Filled, freed but for an object here and there, used again, freed as a whole: by ticks, or at once. */
static void fill_and_drain(void)
{
    enum { KEPT = 700 };
    static const size_t sizes[] = {96, 1000, 40000};
    space *s = space_with(true, HUGE_ADVISED, decay_ms);
    heap *h = heap_of(s);
    for (size_t k = 0; k < 3; k++) {
        size_t count = 40 * (size_t)MIB / sizes[k], live = (count + KEPT - 1) / KEPT;
        char **objects = objects_new(h, count, sizes[k]);
        check_resident(s);
        for (size_t i = 0; i < count; i++)
            if (i % KEPT != 0)
                CHECK_OK(heap_free(h, objects[i]));
        for (int i = 0; i < 100; i++)
            heap_tick(h);
        heap_trim(h);
        CHECK_HEAP(h, live);
        check_resident(s);
        for (size_t i = 0; i < count; i += KEPT) {
            CHECK((unsigned char)objects[i][0] == i % 250 + 1 &&
                  (unsigned char)objects[i][sizes[k] - 1] == i % 250 + 1);
            CHECK_OK(heap_free(h, objects[i]));
        }
        free(objects);
        heap_trim(h);
        CHECK_HEAP(h, 0);
        CHECK_EQUAL(space_statistics(s).mapped_bytes, 0);
        if (!is_emulated())
            CHECK_EQUAL(resident_of((void *)s->ranges[0].arena.base, s->ranges[0].arena.reserved_bytes), 0);
    }
    space_destroy(s);
}

static void a_heap_in_huge_pages_gives_back_whole_ones(void)
{
    static const uint32_t decays[] = {30, 0};
    for (size_t i = 0; i < 2; i++) {
        decay_ms = decays[i];
        if (has_huge_pages())
            CHECK_NONE_IN_PART(fill_and_drain);
        else
            fill_and_drain();
    }
}

static void a_heap_is_in_huge_pages_or_kept_out(void)
{
    if (!has_huge_pages())
        return;
    static const struct {
        bool is_wanted;
        huge_setting setting;
        bool is_huge;
    } rows[] = {{true, HUGE_ADVISED, true},   {true, HUGE_ALWAYS, true},   {true, HUGE_NEVER, false},
                {false, HUGE_ADVISED, false}, {false, HUGE_ALWAYS, false}, {false, HUGE_NEVER, false}};
    size_t granted = granted_bytes();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        space *s = space_with(rows[i].is_wanted, rows[i].setting, 1000);
        heap *h = heap_of(s);
        char **objects = objects_new(h, 20 * (size_t)MIB / 500, 500);
        const arena *a = &s->ranges[0].arena;
        size_t bytes = a->committed * ARENA_CHUNK_BYTES;
        space_stats stats = space_statistics(s);
        CHECK_EQUAL(all_flagged((void *)a->base, bytes, " hg"), rows[i].is_huge);
        CHECK_EQUAL(all_flagged((void *)a->base, a->reserved_bytes, " nh"), !rows[i].is_huge);
        CHECK(all_flagged((void *)s->ranges[0].slabs, s->ranges[0].tables_bytes, " nh"));
        CHECK_EQUAL(stats.huge_page_bytes, rows[i].is_huge ? HUGE_BYTES : 0);
        CHECK_EQUAL(strcmp(stats.huge_pages, rows[i].is_huge ? "on" : "off") == 0,
                    rows[i].is_huge || !rows[i].is_wanted);
        size_t huge_bytes = huge_bytes_of((void *)a->base, bytes);
        CHECK(rows[i].is_huge ? huge_bytes >= granted / 4 : huge_bytes == 0);
        free(objects);
        space_destroy(s);
    }
}

/* With the system's own huge pages or without, the same heap serves the same programs. */
static void random_use_in_huge_pages(void)
{
    enum { LIVE = 3000 };
    check_seed = 71;
    random_source source = random_from(check_seed);
    space *s = space_with(true, HUGE_ADVISED, 2);
    heap *h = heap_of(s), *other = heap_of(s);
    static struct {
        char *object;
        size_t bytes;
    } live[LIVE];
    size_t count = 0;
    for (size_t step = 0; step < amount(60000); step++) {
        size_t i = random_below(&source, LIVE);
        if (live[i].object != NULL) {
            CHECK(is_stamped(live[i].object, live[i].bytes, i));
            CHECK_OK(heap_free(random_below(&source, 2) == 0 ? h : other, live[i].object));
            live[i].object = NULL;
            count--;
        } else if (random_below(&source, 3000) < (step / 8000 % 2 == 0 ? 2500u : 300u)) {
            live[i].bytes = any_size(&source, 5 * MIB);
            REQUIRE((live[i].object = heap_allocate(random_below(&source, 2) == 0 ? h : other, live[i].bytes)) != NULL);
            stamp(live[i].object, live[i].bytes, i);
            count++;
        }
        if (step % 32 == 0)
            heap_tick(h);
        if (step % 1000 == 0) {
            slabmalloc_zone_collect(other->view.zone);
            CHECK_HEAP(h, count);
        }
    }
    for (size_t i = 0; i < LIVE; i++)
        if (live[i].object != NULL)
            CHECK_OK(heap_free(h, live[i].object));
    heap_trim(other);
    heap_trim(h);
    CHECK_HEAP(h, 0);
    check_resident(s);
    space_destroy(s);
}

int main(void)
{
    RUN(settings_are_read_as_the_kernel_writes_them);
    RUN(what_follows_from_a_setting);
    RUN(a_huge_page_that_is_cut_goes_back_in_parts);
    RUN(large_objects_never_go_back_in_part);
    RUN(large_objects_are_huge_if_so_wanted);
    RUN(a_large_object_that_moves_stays_huge);
    RUN(a_heap_in_huge_pages_gives_back_whole_ones);
    RUN(a_heap_is_in_huge_pages_or_kept_out);
    RUN(random_use_in_huge_pages);
    return check_finish();
}
