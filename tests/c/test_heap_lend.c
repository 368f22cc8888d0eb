/* SPDX-License-Identifier: MIT
 *
 * Addresses that are lent to the system where it has none left, and that come back: those of chunks that are free as a
 * whole, and what others map there meanwhile is none of the heap's.
 */
#include "limits.h"
#include "space_fixture.h"

#include <sys/mman.h>

enum { CHUNKS = 8 };

static char *chunk_at(const arena *a, size_t chunk) { return (char *)a->base + chunk * ARENA_CHUNK_BYTES; }

/* Somebody else's page at this very address. */
static char *map_others(char *address)
{
    char *mapped = mmap(address, os_page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_POINTER(mapped, address); /* as nothing else is mapped there */
    *mapped = 7;
    return mapped;
}

/* A page, of a chunk that comes back if there is no other. */
static void *take(arena *a, size_t page_bytes)
{
    size_t tries = SIZE_MAX;
    void *page = arena_take(a, page_bytes);
    return page == NULL && arena_take_back(a, &tries) ? arena_take(a, page_bytes) : page;
}

static void chunks_are_lent_and_come_back(void)
{
    arena a;
    REQUIRE(arena_init(&a, CHUNKS * ARENA_CHUNK_BYTES, ARENA_CHUNK_BYTES, &no_huge_pages));
    char *pages[4];
    for (size_t i = 0; i < 4; i++) {
        REQUIRE((pages[i] = arena_take(&a, ARENA_CHUNK_BYTES)) != NULL);
        memset(pages[i], 1, ARENA_CHUNK_BYTES);
    }
    arena_give(&a, pages[1], ARENA_CHUNK_BYTES);
    arena_give(&a, pages[3], ARENA_CHUNK_BYTES);
    /* What was never handed out goes first, from the end on; then the highest that is free. */
    CHECK_EQUAL(arena_lend(&a, 1, false), ARENA_CHUNK_BYTES);
    CHECK(!arena_holds(&a, (uintptr_t)chunk_at(&a, 7)) && arena_holds(&a, (uintptr_t)chunk_at(&a, 7) - 1));
    CHECK_EQUAL(arena_lend(&a, 4 * ARENA_CHUNK_BYTES, false), 4 * ARENA_CHUNK_BYTES);
    CHECK(arena_is_valid(&a));
    for (size_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK_EQUAL(arena_holds(&a, (uintptr_t)chunk_at(&a, chunk) + 100), chunk < 3);
    CHECK_EQUAL(a.given_back_bytes, ARENA_CHUNK_BYTES);
    CHECK_EQUAL(a.in_use_count, 2 * ARENA_CHUNK_UNITS);
    CHECK_EQUAL(a.resting_count, ARENA_CHUNK_UNITS);
    /* Others map something there: it stays theirs, whatever the arena does, and its end too. */
    char *others = map_others(chunk_at(&a, 3)), *more = map_others(chunk_at(&a, 5));
    CHECK_POINTER(take(&a, ARENA_CHUNK_BYTES), pages[1]);
    CHECK_POINTER(arena_take(&a, ARENA_UNIT_BYTES), NULL);
    CHECK_POINTER(take(&a, ARENA_UNIT_BYTES), chunk_at(&a, 4));
    CHECK_EQUAL(*chunk_at(&a, 4), 0);
    *chunk_at(&a, 4) = 1;
    CHECK_POINTER(take(&a, ARENA_CHUNK_BYTES), chunk_at(&a, 6));
    CHECK_POINTER(take(&a, ARENA_CHUNK_BYTES), chunk_at(&a, 7));
    CHECK_POINTER(take(&a, ARENA_CHUNK_BYTES), NULL);
    CHECK(arena_is_valid(&a));
    munmap(others, os_page_bytes());
    CHECK_POINTER(take(&a, ARENA_CHUNK_BYTES), chunk_at(&a, 3));
    CHECK_POINTER(take(&a, ARENA_CHUNK_BYTES), NULL);
    munmap(more, os_page_bytes());
    CHECK_POINTER(take(&a, ARENA_CHUNK_BYTES), chunk_at(&a, 5));
    CHECK_POINTER(take(&a, ARENA_CHUNK_BYTES), NULL);
    CHECK(arena_is_valid(&a));
    /* The end of the arena is none for what others have in it. */
    arena_give(&a, chunk_at(&a, 6), ARENA_CHUNK_BYTES);
    arena_give(&a, chunk_at(&a, 2), ARENA_CHUNK_BYTES);
    CHECK_EQUAL(arena_lendable_bytes(&a, false), 2 * ARENA_CHUNK_BYTES);
    CHECK_EQUAL(arena_lend(&a, SIZE_MAX, false), 2 * ARENA_CHUNK_BYTES);
    CHECK_EQUAL(arena_lend(&a, SIZE_MAX, false), 0);
    others = map_others(chunk_at(&a, 6));
    arena_end(&a);
    CHECK_EQUAL(*others, 7);
    munmap(others, os_page_bytes());
}

/* Steps at random, with others who map what is lent. */
static void random_steps_with(const huge_use *huge)
{
    enum { STEPS = 20000 };
    arena a;
    REQUIRE(arena_init(&a, CHUNKS * ARENA_CHUNK_BYTES, ARENA_CHUNK_BYTES, huge));
    random_source source = random_from(check_seed = 31);
    char *pages[CHUNKS * ARENA_CHUNK_UNITS], *others[CHUNKS] = {NULL};
    size_t count = 0;
    for (int step = 0; step < STEPS; step++) {
        size_t dice = random_below(&source, 16), chunk = random_below(&source, CHUNKS);
        if (dice < 7) {
            char *page = take(&a, ARENA_UNIT_BYTES);
            if (page != NULL) {
                CHECK(arena_holds(&a, (uintptr_t)page) && others[(uintptr_t)(page - (char *)a.base) >> 20] == NULL);
                *page = 1;
                pages[count++] = page;
            }
        } else if (dice < 14 && count > 0) {
            char **given = &pages[random_below(&source, count)];
            CHECK_EQUAL(**given, 1);
            arena_give(&a, *given, ARENA_UNIT_BYTES);
            *given = pages[--count];
        } else if (dice == 14) {
            arena_lend(&a, random_below(&source, 3) * ARENA_CHUNK_BYTES, random_below(&source, 2) == 0);
        } else if (others[chunk] != NULL) {
            CHECK_EQUAL(*others[chunk], 7);
            munmap(others[chunk], os_page_bytes());
            others[chunk] = NULL;
        } else if (!arena_holds(&a, (uintptr_t)chunk_at(&a, chunk))) {
            others[chunk] = map_others(chunk_at(&a, chunk));
        }
        CHECK(arena_is_valid(&a));
        CHECK_EQUAL(a.in_use_count, count);
    }
    arena_end(&a);
    for (size_t chunk = 0; chunk < CHUNKS; chunk++)
        if (others[chunk] != NULL) {
            CHECK_EQUAL(*others[chunk], 7);
            munmap(others[chunk], os_page_bytes());
        }
}

static void random_steps(void) { random_steps_with(&no_huge_pages); }

static void random_steps_in_huge_pages(void) { random_steps_with(&wanted_huge_pages); }

/* Of two chunks each: a huge page is nobody else's in part. */
static void spans_in_huge_pages_are_lent_as_wholes(void)
{
    arena a;
    REQUIRE(arena_init(&a, CHUNKS * ARENA_CHUNK_BYTES, ARENA_CHUNK_BYTES, &wanted_huge_pages));
    char *pages[6];
    for (size_t i = 0; i < 6; i++) {
        REQUIRE((pages[i] = arena_take(&a, ARENA_CHUNK_BYTES)) == chunk_at(&a, i));
        memset(pages[i], 1, ARENA_CHUNK_BYTES);
    }
    arena_give(&a, pages[1], ARENA_CHUNK_BYTES);
    CHECK_EQUAL(arena_lendable_bytes(&a, true), 0);
    CHECK_EQUAL(arena_lendable_bytes(&a, false), HUGE_BYTES);
    arena_give(&a, pages[4], ARENA_CHUNK_BYTES);
    arena_give(&a, pages[5], ARENA_CHUNK_BYTES);
    CHECK_EQUAL(arena_lendable_bytes(&a, true), HUGE_BYTES);
    CHECK_EQUAL(arena_lend(&a, 1, false), HUGE_BYTES); /* what was never handed out first */
    CHECK(arena_holds(&a, (uintptr_t)chunk_at(&a, 5)) && !arena_holds(&a, (uintptr_t)chunk_at(&a, 6)));
    CHECK_EQUAL(arena_lend(&a, 1, true), HUGE_BYTES);
    CHECK_EQUAL(arena_lend(&a, SIZE_MAX, false), 0);
    CHECK_EQUAL(a.given_back_bytes, HUGE_BYTES);
    CHECK_EQUAL(a.in_use_count, 3 * ARENA_CHUNK_UNITS);
    CHECK_EQUAL(a.resting_count, ARENA_CHUNK_UNITS);
    CHECK(arena_is_valid(&a));
    /* Somebody else's OS page keeps the whole span from coming back. */
    char *others = map_others(chunk_at(&a, 5));
    CHECK_POINTER(take(&a, ARENA_CHUNK_BYTES), pages[1]);
    CHECK_POINTER(take(&a, ARENA_UNIT_BYTES), chunk_at(&a, 6));
    CHECK_POINTER(take(&a, ARENA_CHUNK_BYTES), chunk_at(&a, 7));
    CHECK_POINTER(take(&a, ARENA_CHUNK_BYTES), NULL);
    munmap(others, os_page_bytes());
    CHECK_POINTER(take(&a, ARENA_CHUNK_BYTES), chunk_at(&a, 4));
    CHECK_POINTER(take(&a, ARENA_CHUNK_BYTES), chunk_at(&a, 5));
    CHECK(!has_huge_pages() || all_flagged(chunk_at(&a, 4), 2 * HUGE_BYTES, " hg"));
    CHECK(arena_is_valid(&a));
    arena_end(&a);
}

/* Memory that rests is wanted again sooner than what has none; and what has gone rests no more. */
static void what_has_no_memory_goes_first(void)
{
    arena a;
    REQUIRE(arena_init(&a, CHUNKS * ARENA_CHUNK_BYTES, ARENA_CHUNK_BYTES, &no_huge_pages));
    for (size_t i = 0; i < 4; i++)
        REQUIRE(arena_take(&a, ARENA_CHUNK_BYTES) == chunk_at(&a, i));
    arena_give(&a, chunk_at(&a, 1), ARENA_CHUNK_BYTES);
    arena_purge(&a, SIZE_MAX);
    arena_give(&a, chunk_at(&a, 3), ARENA_CHUNK_BYTES);
    arena_note_low(&a);
    /* What was never handed out is no memory that can be written. */
    CHECK_EQUAL(arena_lendable_bytes(&a, true), 2 * ARENA_CHUNK_BYTES);
    CHECK_EQUAL(arena_lendable_bytes(&a, false), 6 * ARENA_CHUNK_BYTES);
    CHECK_EQUAL(arena_lend(&a, 1, true), ARENA_CHUNK_BYTES);
    CHECK(!arena_holds(&a, (uintptr_t)chunk_at(&a, 1)) && arena_holds(&a, (uintptr_t)chunk_at(&a, 3)));
    CHECK_EQUAL(a.resting_count, ARENA_CHUNK_UNITS);
    CHECK_EQUAL(arena_lend(&a, SIZE_MAX, true), ARENA_CHUNK_BYTES);
    CHECK_EQUAL(arena_note_low(&a), 0);
    CHECK_EQUAL(arena_lend(&a, SIZE_MAX, false), 4 * ARENA_CHUNK_BYTES);
    CHECK(arena_is_valid(&a));
    arena_end(&a);
}

/* Where others are in the hole what is left of it comes back all the same, from where the call before ended. */
static void no_more_is_asked_for_than_allowed(void)
{
    arena a;
    char *others[CHUNKS];
    REQUIRE(arena_init(&a, CHUNKS * ARENA_CHUNK_BYTES, ARENA_CHUNK_BYTES, &no_huge_pages));
    CHECK_EQUAL(arena_lend(&a, SIZE_MAX, false), CHUNKS * ARENA_CHUNK_BYTES);
    for (size_t i = 0; i < CHUNKS - 1; i++)
        others[i] = map_others(chunk_at(&a, i));
    for (size_t all = 3; all < CHUNKS; all += 3) {
        size_t tries = 3;
        CHECK(!arena_take_back(&a, &tries));
        CHECK_EQUAL(tries, 0);
        CHECK_EQUAL(a.lent_count, all);
    }
    size_t tries = 3;
    CHECK(arena_take_back(&a, &tries));
    CHECK_EQUAL(tries, 1);
    CHECK_POINTER(arena_take(&a, ARENA_CHUNK_BYTES), chunk_at(&a, CHUNKS - 1));
    munmap(others[0], os_page_bytes());
    CHECK(arena_take_back(&a, &(size_t){1})); /* round about */
    CHECK_POINTER(arena_take(&a, ARENA_CHUNK_BYTES), chunk_at(&a, 0));
    CHECK(!arena_take_back(&a, &(size_t){SIZE_MAX}));
    CHECK(arena_is_valid(&a));
    arena_end(&a);
    for (size_t i = 1; i < CHUNKS - 1; i++) {
        CHECK_EQUAL(*others[i], 7);
        munmap(others[i], os_page_bytes());
    }
}

/* What another range has is there at once. */
static void lent_chunks_come_back_last(void)
{
    space *s = space_new(4 * MIB, 2, 1000);
    char *pages[8];
    for (size_t i = 0; i < 8; i++)
        REQUIRE((pages[i] = space_take_page(s, ARENA_CHUNK_BYTES)) != NULL);
    CHECK_EQUAL(s->range_count, 2);
    space_give_page(s, pages[1], ARENA_CHUNK_BYTES);
    CHECK_EQUAL(arena_lend(&s->ranges[0].arena, SIZE_MAX, false), ARENA_CHUNK_BYTES);
    CHECK(!space_holds(s, (uintptr_t)pages[1]));
    space_give_page(s, pages[6], ARENA_CHUNK_BYTES);
    CHECK_POINTER(space_take_page(s, ARENA_CHUNK_BYTES), pages[6]);
    CHECK_POINTER(space_take_page(s, ARENA_CHUNK_BYTES), pages[1]);
    CHECK_POINTER(space_take_page(s, ARENA_CHUNK_BYTES), NULL);
    space_destroy(s);
}

/* As many of them as it takes, where nothing else is left. */
static void all_lent_chunks_are_asked_for_at_last(void)
{
    enum { MANY = 200 };
    space *s = space_new(MANY * ARENA_CHUNK_BYTES, 1, 1000);
    arena *a = &s->ranges[0].arena;
    char *others[MANY - 1];
    CHECK_EQUAL(arena_lend(a, SIZE_MAX, false), MANY * ARENA_CHUNK_BYTES);
    for (size_t i = 0; i < MANY - 1; i++)
        others[i] = map_others(chunk_at(a, i));
    CHECK_POINTER(space_take_page(s, ARENA_CHUNK_BYTES), chunk_at(a, MANY - 1));
    CHECK_POINTER(space_take_page(s, ARENA_CHUNK_BYTES), NULL);
    space_destroy(s);
    for (size_t i = 0; i < MANY - 1; i++) {
        CHECK_EQUAL(*others[i], 7);
        munmap(others[i], os_page_bytes());
    }
}

/* In a child: it uses up all mappings, so that none can be parted. */
static int parts_that_the_system_refuses(void)
{
    arena a;
    REQUIRE(arena_init(&a, CHUNKS * ARENA_CHUNK_BYTES, ARENA_CHUNK_BYTES, &no_huge_pages));
    for (size_t i = 0; i < 3; i++)
        REQUIRE(arena_take(&a, ARENA_CHUNK_BYTES) == chunk_at(&a, i));
    memset(chunk_at(&a, 1), 1, ARENA_CHUNK_BYTES);
    arena_give(&a, chunk_at(&a, 1), ARENA_CHUNK_BYTES);
    enum { MOST = 200000 }; /* elsewhere a process may have many more, and this is no test */
    int count = 0, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    while (count < MOST && /* neighbours of two kinds are no single mapping */
           mmap(NULL, os_page_bytes(), count % 2 == 0 ? PROT_READ : PROT_NONE, flags, -1, 0) != MAP_FAILED)
        count++;
    if (count == MOST)
        return 0;
    CHECK_EQUAL(arena_lend(&a, 1, true), 0);
    CHECK_EQUAL(a.resting_count, ARENA_CHUNK_UNITS);
    CHECK_EQUAL(a.given_back_bytes, 0);
    CHECK(arena_is_valid(&a) && arena_holds(&a, (uintptr_t)chunk_at(&a, 1)) && *chunk_at(&a, 1) == 1);
    return 0;
}

static void what_cannot_be_lent_is_as_before(void)
{
    if (limits_are_kept())
        CHECK_EQUAL(in_limited_child((size_t)1 << 40, parts_that_the_system_refuses), 0);
}

/* ---- others, who can't ask for it: threads that start, loaders, mmap ---------------------------------------- */

static bool others_find(size_t bytes)
{
    void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return mapped != MAP_FAILED && munmap(mapped, bytes) == 0;
}

/* In a child: a heap takes all that there is, and frees it. */
static heap *heap_that_had_all(uint32_t decay_ms)
{
    enum { BYTES = 1000 };
    heap *h = heap_of(space_new(16 * MIB, 32, decay_ms));
    char *last = NULL, *object;
    for (; (object = heap_allocate(h, BYTES)) != NULL; last = object)
        *(char **)object = last;
    CHECK(!others_find(8 * MIB));
    for (; last != NULL; last = object) {
        object = *(char **)last;
        CHECK_OK(heap_free(h, last));
    }
    return h; /* by now a short decay may be over */
}

static int others_wait_for_the_decay(void)
{
    heap *h = heap_that_had_all(20);
    for (int i = 0; i < 200 && !others_find(8 * MIB); i++) {
        sleep_ms(5);
        heap_tick(h);
    }
    CHECK(others_find(8 * MIB));
    CHECK(heap_allocate(h, 1000) != NULL);
    CHECK_HEAP(h, 1);
    return 0;
}

static int others_wait_for_a_trim(void)
{
    heap *h = heap_that_had_all(1000000);
    CHECK(!others_find(8 * MIB));
    CHECK(heap_trim(h) > 0);
    CHECK(others_find(space_left / 2));
    CHECK(heap_allocate(h, 1000) != NULL);
    CHECK_HEAP(h, 1);
    return 0;
}

static void others_find_room_too(void)
{
    if (!limits_are_kept())
        return;
    CHECK_EQUAL(in_limited_child(128 * MIB, others_wait_for_the_decay), 0);
    CHECK_EQUAL(in_limited_child(128 * MIB, others_wait_for_a_trim), 0);
    CHECK_EQUAL(in_child_of_little_data(128 * MIB, others_wait_for_a_trim), 0);
}

/* A limit below what others have: nothing that the heap could give would help them, and nothing would come back. */
static int nobody_gains(bool is_memory, bool is_trimmed)
{
    enum { COUNT = 20000, BYTES = 1000 };
    heap *h = heap_of(space_new(64 * MIB, 1, is_trimmed ? 1000000 : 10));
    char *others = mmap(NULL, 256 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(others != MAP_FAILED);
    char *last = NULL, *object;
    for (int i = 0; i < COUNT; i++, last = object) {
        REQUIRE((object = heap_allocate(h, BYTES)) != NULL);
        *(char **)object = last;
    }
    for (; last != NULL; last = object) {
        object = *(char **)last;
        CHECK_OK(heap_free(h, last));
    }
    struct rlimit limit;
    REQUIRE(getrlimit(is_memory ? RLIMIT_DATA : RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = 64 * MIB;
    REQUIRE(setrlimit(is_memory ? RLIMIT_DATA : RLIMIT_AS, &limit) == 0);
    for (int i = 0; i < 20; i++) {
        sleep_ms(4);
        heap_tick(h);
    }
    if (is_trimmed)
        CHECK(heap_trim(h) > 0);
    CHECK_EQUAL(h->space->ranges[0].arena.lent_count, 0);
    for (int i = 0; i < COUNT; i++)
        REQUIRE(heap_allocate(h, BYTES) != NULL);
    return 0;
}

static int nobody_gains_addresses_by_a_tick(void) { return nobody_gains(false, false); }
static int nobody_gains_addresses_by_a_trim(void) { return nobody_gains(false, true); }
static int nobody_gains_memory_by_a_tick(void) { return nobody_gains(true, false); }
static int nobody_gains_memory_by_a_trim(void) { return nobody_gains(true, true); }

static void what_helps_nobody_is_kept(void)
{
    if (!limits_are_kept())
        return;
    CHECK_EQUAL(in_limited_child((size_t)1 << 40, nobody_gains_addresses_by_a_tick), 0);
    CHECK_EQUAL(in_limited_child((size_t)1 << 40, nobody_gains_addresses_by_a_trim), 0);
    CHECK_EQUAL(in_limited_child((size_t)1 << 40, nobody_gains_memory_by_a_tick), 0);
    CHECK_EQUAL(in_limited_child((size_t)1 << 40, nobody_gains_memory_by_a_trim), 0);
}

int main(void)
{
    RUN(chunks_are_lent_and_come_back);
    RUN(random_steps);
    RUN(random_steps_in_huge_pages);
    RUN(spans_in_huge_pages_are_lent_as_wholes);
    RUN(what_has_no_memory_goes_first);
    RUN(no_more_is_asked_for_than_allowed);
    RUN(lent_chunks_come_back_last);
    RUN(all_lent_chunks_are_asked_for_at_last);
    RUN(what_cannot_be_lent_is_as_before);
    RUN(others_find_room_too);
    RUN(what_helps_nobody_is_kept);
    return check_finish();
}
