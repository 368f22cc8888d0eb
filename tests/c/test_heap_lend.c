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
    CHECK_EQUAL(arena_lend(&a, 1), ARENA_CHUNK_BYTES);
    CHECK(!arena_holds(&a, (uintptr_t)chunk_at(&a, 7)) && arena_holds(&a, (uintptr_t)chunk_at(&a, 7) - 1));
    CHECK_EQUAL(arena_lend(&a, 4 * ARENA_CHUNK_BYTES), 4 * ARENA_CHUNK_BYTES);
    CHECK(arena_is_valid(&a));
    for (size_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK_EQUAL(arena_holds(&a, (uintptr_t)chunk_at(&a, chunk) + 100), chunk < 3);
    CHECK_EQUAL(a.given_back_bytes, ARENA_CHUNK_BYTES);
    CHECK_EQUAL(a.in_use_count, 2 * ARENA_CHUNK_UNITS);
    CHECK_EQUAL(a.resting_count, ARENA_CHUNK_UNITS);
    /* Others map something there: it stays theirs, whatever the arena does, and its end too. */
    char *others = map_others(chunk_at(&a, 3)), *more = map_others(chunk_at(&a, 5));
    CHECK_POINTER(arena_take(&a, ARENA_CHUNK_BYTES), pages[1]);
    CHECK_POINTER(arena_take(&a, ARENA_UNIT_BYTES), chunk_at(&a, 4));
    CHECK_EQUAL(*chunk_at(&a, 4), 0);
    *chunk_at(&a, 4) = 1;
    CHECK_POINTER(arena_take(&a, ARENA_CHUNK_BYTES), NULL);
    CHECK(arena_is_valid(&a));
    munmap(others, os_page_bytes());
    CHECK_POINTER(arena_take(&a, ARENA_CHUNK_BYTES), chunk_at(&a, 3));
    CHECK_POINTER(arena_take(&a, ARENA_CHUNK_BYTES), NULL);
    munmap(more, os_page_bytes());
    for (size_t chunk = 5; chunk < CHUNKS; chunk++)
        CHECK_POINTER(arena_take(&a, ARENA_CHUNK_BYTES), chunk_at(&a, chunk));
    CHECK_POINTER(arena_take(&a, ARENA_CHUNK_BYTES), NULL);
    CHECK(arena_is_valid(&a));
    /* The end of the arena is none for what others have in it. */
    arena_give(&a, chunk_at(&a, 6), ARENA_CHUNK_BYTES);
    arena_give(&a, chunk_at(&a, 2), ARENA_CHUNK_BYTES);
    CHECK_EQUAL(arena_lend(&a, SIZE_MAX), 2 * ARENA_CHUNK_BYTES);
    CHECK_EQUAL(arena_lend(&a, SIZE_MAX), 0);
    others = map_others(chunk_at(&a, 6));
    arena_end(&a);
    CHECK_EQUAL(*others, 7);
    munmap(others, os_page_bytes());
}

/* Steps at random, with others who map what is lent. */
static void random_steps(void)
{
    enum { STEPS = 20000 };
    arena a;
    REQUIRE(arena_init(&a, CHUNKS * ARENA_CHUNK_BYTES, ARENA_CHUNK_BYTES, &no_huge_pages));
    random_source source = random_from(check_seed = 31);
    char *pages[CHUNKS * ARENA_CHUNK_UNITS], *others[CHUNKS] = {NULL};
    size_t count = 0;
    for (int step = 0; step < STEPS; step++) {
        size_t dice = random_below(&source, 16), chunk = random_below(&source, CHUNKS);
        if (dice < 7) {
            char *page = arena_take(&a, ARENA_UNIT_BYTES);
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
            arena_lend(&a, random_below(&source, 3) * ARENA_CHUNK_BYTES);
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

static void spans_in_huge_pages_are_not_lent(void)
{
    arena a;
    REQUIRE(arena_init(&a, CHUNKS * ARENA_CHUNK_BYTES, ARENA_CHUNK_BYTES, &wanted_huge_pages));
    CHECK_EQUAL(arena_lend(&a, SIZE_MAX), 0);
    arena_end(&a);
}

/* All that the system grants, in blocks of a size; they are freed. Returns the bytes. */
static size_t exhaust(heap *h, size_t bytes)
{
    void *last = NULL;
    size_t all = 0;
    for (void **block; (block = heap_allocate(h, bytes)) != NULL; last = block, all += bytes)
        *block = last;
    CHECK(heap_audit(h) == NULL);
    for (void *block = last, *next; block != NULL; block = next) {
        next = *(void **)block;
        CHECK_OK(heap_free(h, block));
    }
    CHECK(heap_audit(h) == NULL);
    space_stats stats = space_statistics(h->space);
    CHECK_EQUAL(stats.live_bytes + stats.free_bytes + stats.tail_bytes + stats.resting_bytes, stats.mapped_bytes);
    return all;
}

static int small_and_large_in_turn(void)
{
    heap *h = heap_create(0);
    REQUIRE(h != NULL);
    void *stays = heap_allocate(h, 100);
    static const size_t sizes[] = {1000, 1 << 20, 100, 10 << 20, 50000, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t all = exhaust(h, sizes[i]);
        if (!CHECK(all > space_left / 2))
            printf("%zu bytes in blocks of %zu after %zu\n", all, sizes[i], i == 0 ? 0 : sizes[i - 1]);
    }
    CHECK_OK(heap_free(h, stays));
    CHECK_HEAP(h, 0);
    heap_destroy(h);
    return 0;
}

static void what_one_kind_had_another_gets(void)
{
    for (size_t bytes = 64 * (size_t)MIB; bytes <= 256 * (size_t)MIB && limits_are_kept(); bytes *= 2)
        CHECK_EQUAL(in_limited_child(bytes, small_and_large_in_turn), 0);
}

/* A request that no limit has refused costs nobody his addresses. */
static void nothing_is_lent_without_a_limit(void)
{
    space *s = space_new(0, 1, 1000);
    size_t reserved = space_statistics(s).reserved_bytes;
    bool is_zero;
    CHECK_POINTER(space_allocate_large(s, (size_t)1 << 60, 16, &is_zero), NULL);
    CHECK_EQUAL(space_statistics(s).reserved_bytes, reserved);
    space_destroy(s);
}

int main(void)
{
    RUN(chunks_are_lent_and_come_back);
    RUN(random_steps);
    RUN(spans_in_huge_pages_are_not_lent);
    RUN(what_one_kind_had_another_gets);
    RUN(nothing_is_lent_without_a_limit);
    return check_finish();
}
