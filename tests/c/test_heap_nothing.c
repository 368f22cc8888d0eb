/* SPDX-License-Identifier: MIT
 *
 * What nobody may touch: objects of no bytes, which have addresses and no memory; and what lies below a range, and
 * behind the part of it that is in use.
 */
#include "limits.h"
#include "space_fixture.h"

#include <signal.h>
#include <sys/wait.h>

/* Does a child that reads, or writes, at the address end by SIGSEGV? */
static bool is_guarded(const char *address, bool by_write)
{
    fflush(NULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* sanitizers have a handler of their own */
        volatile char *at = (volatile char *)(uintptr_t)address;
        char found = by_write ? 1 : *at;
        *(by_write ? at : &found) = 1;
        _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

enum { COUNT = 10000 }; /* on some pages */

static void are_addresses_of_their_own(bool is_hardened)
{
    space_options options = space_options_default();
    options.reserve_bytes = RESERVE_LEAST;
    options.is_hardened = is_hardened;
    space *s = space_create(&options);
    heap *h = heap_open(s, NULL);
    static void *objects[COUNT];
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            REQUIRE((objects[i] = heap_allocate_nothing(s)) != NULL);
            CHECK_EQUAL((uintptr_t)objects[i] % HEAP_ALIGN_BYTES, 0);
            CHECK(i == 0 || objects[i] != objects[i - 1]);
            CHECK(heap_is_nothing(s, objects[i]) && heap_owns(s, objects[i]));
            CHECK_EQUAL(heap_usable_bytes(s, objects[i]), 0);
        }
        CHECK_HEAP(h, COUNT);
        CHECK_EQUAL(space_statistics(s).live_bytes, 0);
        CHECK_POINTER(heap_audit(s->nothing), NULL);
        CHECK(is_guarded(objects[COUNT / 2], false) && is_guarded((char *)objects[COUNT - 1] + 15, true));
        for (size_t i = 0; i < COUNT; i++) {
            CHECK_OK(i % 2 == 0 ? heap_free(h, objects[i]) : heap_free_remote(s, objects[i]));
            CHECK(!heap_is_nothing(s, objects[i]));
            CHECK_STATUS(i % 3 == 0 ? heap_free(h, objects[i]) : heap_free_remote(s, objects[i]), FREE_DOUBLE);
        }
        CHECK_STATUS(heap_free(h, (char *)objects[0] + 1), FREE_INTERIOR);
        CHECK_HEAP(h, 0);
    }
    space_destroy(s);
}

static void nothing_is_served_to_all(void) { are_addresses_of_their_own(false); }

static void hardened_too(void) { are_addresses_of_their_own(true); }

/* Pages that rested, with memory, have none when they are addresses of objects of no bytes. */
static void has_no_memory(void)
{
    enum { BYTES = 1000, FILLERS = 20000 };
    space *s = space_new(RESERVE_LEAST, 1, 1000000);
    heap *h = heap_of(s);
    static char *fillers[FILLERS];
    for (size_t i = 0; i < FILLERS; i++) {
        REQUIRE((fillers[i] = heap_allocate(h, BYTES)) != NULL);
        memset(fillers[i], 1, BYTES);
    }
    for (size_t i = 0; i < FILLERS; i++)
        CHECK_OK(heap_free(h, fillers[i]));
    CHECK(space_statistics(s).resting_bytes > FILLERS * BYTES / 2);
    size_t resident_bytes = 0;
    for (size_t i = 0; i < 20 * HEAP_PAGE_BYTES / HEAP_ALIGN_BYTES; i++) {
        uintptr_t nothing = (uintptr_t)heap_allocate_nothing(s);
        REQUIRE(nothing != 0);
        if (nothing % HEAP_PAGE_BYTES == 0)
            resident_bytes += os_resident_bytes((void *)nothing, HEAP_PAGE_BYTES);
    }
    if (!is_emulated()) /* an emulator may not tell of pages that nobody may touch: all of them count then */
        CHECK_EQUAL(resident_bytes, 0);
    space_destroy(s);
}

static void becomes_something(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 1000);
    heap *h = heap_of(s);
    static const size_t sizes[] = {1, 100, 5000, 100000, 300000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *nothing = heap_allocate_nothing(s);
        slabmalloc_status status = SLABMALLOC_FREE_DOUBLE;
        char *object = heap_reallocate(h, nothing, sizes[i], &status);
        REQUIRE(object != NULL);
        CHECK_OK(status);
        CHECK(!heap_is_nothing(s, nothing) && !heap_is_nothing(s, object));
        CHECK(heap_usable_bytes(s, object) >= sizes[i]);
        memset(object, 1, sizes[i]);
        CHECK_OK(heap_free(h, object));
        CHECK_POINTER(heap_reallocate(h, nothing, 10, &status), NULL);
        CHECK_STATUS(status, FREE_DOUBLE);
    }
    CHECK_HEAP(h, 0);
    space_destroy(s);
}

static void a_child_has_it_too(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 1000);
    heap *h = heap_of(s);
    void *before = heap_allocate_nothing(s);
    fflush(NULL);
    space_fork_prepare(s);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        space_fork_child(s, &h, 1);
        atomic_store(&check_failures, 0);
        CHECK_OK(heap_free(h, before));
        void *after = heap_allocate_nothing(s);
        CHECK(after != NULL && heap_is_nothing(s, after));
        CHECK_OK(heap_free(h, after));
        CHECK_HEAP(h, 0);
        fflush(NULL);
        _exit(atomic_load(&check_failures) != 0);
    }
    space_fork_parent(s);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(heap_is_nothing(s, before));
    space_destroy(s);
}

/* What runs down from the first page, or up from the last one in use, ends within a chunk. */
static void a_range_has_guards(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 1000);
    heap *h = heap_of(s);
    REQUIRE(heap_allocate(h, 100) != NULL);
    const arena *a = &s->ranges[0].arena;
    const char *base = (const char *)a->base, *end = base + arena_fresh(a) * ARENA_CHUNK_BYTES;
    CHECK(is_guarded(base - 1, true) && is_guarded(base - ARENA_CHUNK_BYTES, true));
    CHECK(is_guarded(end, true) && is_guarded(end + ARENA_CHUNK_BYTES - 1, false));
    CHECK(!is_guarded(base, true) && !is_guarded(end - 1, true));
    /* The tables too. */
    const char *tables = (const char *)s->ranges[0].slabs, *arena_tables = a->tables;
    size_t bytes = align_up(s->ranges[0].tables_bytes, os_page_bytes());
    CHECK(is_guarded(tables - 1, true) && is_guarded(tables + bytes, true));
    CHECK(is_guarded(arena_tables - 1, true) && is_guarded((const char *)s - 1, true));
    space_destroy(s);
}

int main(void)
{
    RUN(nothing_is_served_to_all);
    RUN(hardened_too);
    RUN(has_no_memory);
    RUN(becomes_something);
    RUN(a_child_has_it_too);
    RUN(a_range_has_guards);
    return check_finish();
}
