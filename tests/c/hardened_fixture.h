/* SPDX-License-Identifier: MIT
 *
 * What the tests of hardened heaps share: a hardened space that notes what it finds damaged, and children that must
 * die.
 */
#ifndef HARDENED_FIXTURE_H
#define HARDENED_FIXTURE_H

#include "space_fixture.h"

#include "heap/hardened.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const void *_Atomic last_damaged;

static inline void note_damaged(space *s, const void *object)
{
    (void)s;
    atomic_store(&last_damaged, object);
}

static inline space *hardened_space_new(size_t reserve_bytes)
{
    space_options options = space_options_default();
    options.reserve_bytes = reserve_bytes;
    options.max_ranges = 1;
    options.is_hardened = true;
    options.damaged = note_damaged;
    space *s = space_create(&options);
    REQUIRE(s != NULL);
    atomic_store(&last_damaged, NULL);
    return s;
}

static inline uint64_t damages_of(space *s) { return atomic_load(&s->damages); }

/* One of many in its class. */
static inline char *block_among_others(heap *h, size_t bytes)
{
    char *block = NULL;
    for (int i = 0; i < 20; i++) {
        char *other = heap_allocate(h, bytes);
        REQUIRE(other != NULL);
        block = i == 10 ? other : block;
    }
    return block;
}

/* So many blocks of a size come and go: whatever was in quarantine has left it, but with a probability of less than one
 * in 10^12, and so have all clean ones been served that were free. */
static inline void churn(heap *h, size_t bytes)
{
    enum { ROUNDS = 30 };
    for (int i = 0; i < ROUNDS * HARDENED_QUARANTINE_MOST; i++)
        heap_free(h, heap_allocate(h, bytes));
}

/* No round of the sweep, however slow the machine, until next_round_ms is another. */
static inline void hold_sweep(heap *h) { h->next_round_ms = UINT64_MAX / 2; }

/* The size of the class that serves blocks of so many bytes. */
static inline size_t object_bytes_of(heap *h, size_t bytes)
{
    char *block = heap_allocate(h, bytes);
    size_t object_bytes = heap_inspect(h->space, block).object_bytes;
    CHECK_OK(heap_free(h, block));
    return object_bytes;
}

/* Does reading, and does writing at the address kill a child? */
static inline bool touch_kills(volatile char *address, bool is_write)
{
    fflush(NULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        char found = *address;
        if (is_write)
            *address = (char)(found + 1);
        _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) && (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS);
}

#endif
