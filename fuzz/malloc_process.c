/* SPDX-License-Identifier: MIT
 *
 * Threads, clock, system and end of the process that is played: see malloc_process.h.
 */
/* The system's own functions, which have other names everywhere else. */
#undef clock_gettime
#undef mmap
#undef munmap
#undef mremap
#undef mprotect
#undef madvise
#undef getrandom
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#include "malloc_process.h"
#include "stop.h"
#include "threads.h"

malloc_process process;

/* ---- threads --------------------------------------------------------------------------------------------- */

heap no_heap;
_Thread_local heap *thread_heap = &no_heap;
static heap *borrowed; /* by the thread that is at its end */

space *process_space(void) { return process.space; }
space *process_space_if_any(void) { return process.space; }

static bool is_at_its_end(void) { return process.seat == SEATS; }

static bool is_gone(uint64_t owner)
{
    for (unsigned i = 0; i < SEATS; i++) {
        const heap *h = i == process.seat ? thread_heap_if_any() : process.heaps[i];
        if (h != NULL && h->owner == owner)
            return false;
    }
    return true;
}

heap *thread_heap_open(void)
{
    if (thread_heap_if_any() != NULL)
        return thread_heap;
    heap *h = heap_open(process.space, is_gone);
    if (h == NULL)
        return NULL;
    if (is_at_its_end())
        return borrowed = h;
    h->owner = ++process.owners;
    return thread_heap = h;
}

void thread_heap_done(heap *h)
{
    if (h == NULL || !is_at_its_end())
        return;
    borrowed = NULL;
    heap_abandon(h);
}

void process_turn(unsigned seat)
{
    if (!is_at_its_end())
        process.heaps[process.seat] = thread_heap_if_any();
    process.seat = seat;
    bool has_heap = !is_at_its_end() && process.heaps[seat] != NULL;
    thread_heap = has_heap ? process.heaps[seat] : &no_heap;
}

void process_thread_ends(bool silently)
{
    heap *h = thread_heap_if_any();
    thread_heap = &no_heap;
    if (h != NULL && !silently)
        heap_abandon(h);
}

void process_forks(bool is_child)
{
    space_fork_prepare(process.space);
    if (!is_child) {
        space_fork_parent(process.space);
        return;
    }
    heap *kept = thread_heap_if_any();
    space_fork_child(process.space, &kept, kept != NULL);
    for (unsigned i = 0; i < SEATS; i++)
        if (i != process.seat)
            process.heaps[i] = NULL;
    process.lost_heaps = 0;
    for (const heap *h = process.space->heaps; h != NULL; h = h->next)
        process.lost_heaps += h->state == HEAP_LOST;
}

/* ---- life ------------------------------------------------------------------------------------------------ */

void process_begin(const space_options *options)
{
    process = (malloc_process){.now_ns = UINT64_C(1000000000)};
    thread_heap = &no_heap;
    borrowed = NULL;
    process.space = space_create(options);
    REQUIRE(process.space != NULL);
}

void process_end(void)
{
    space_destroy(process.space);
    process.space = NULL;
}

/* ---- an end that can be survived ------------------------------------------------------------------------- */

static jmp_buf survivor;
static const char *stop_reason;
static bool is_survivable;

void stop_process(space *s, const char *call, slabmalloc_status status, const void *address, const char *domain)
{
    if (!is_survivable) {
        printf("%s of %p (%s) stopped the process: %s\n", call, address, domain, slabmalloc_status_text(status));
        fflush(stdout);
        abort();
    }
    CHECK_POINTER(s, process.space);
    CHECK(strcmp(domain, "malloc") == 0);
    static char reason[64];
    bool is_double = status == SLABMALLOC_FREE_DOUBLE && strcmp(call, "free") == 0;
    snprintf(reason, sizeof(reason), "%s %s", is_double ? "double" : "invalid", call);
    stop_reason = reason;
    longjmp(survivor, 1);
}

const char *process_stop_of(void (*act)(void *block, size_t bytes), void *block, size_t bytes)
{
    stop_reason = NULL;
    is_survivable = true;
    if (setjmp(survivor) == 0)
        act(block, bytes);
    is_survivable = false;
    if (stop_reason != NULL) /* what a call would have done at its end */
        thread_heap_done(borrowed);
    return stop_reason;
}

/* ---- clock and system ------------------------------------------------------------------------------------ */

int fuzz_clock_gettime(clockid_t clock, struct timespec *now);
void *fuzz_mmap(void *memory, size_t bytes, int access, int flags, int file, off_t offset);
int fuzz_munmap(void *memory, size_t bytes);
void *fuzz_mremap(void *memory, size_t old_bytes, size_t new_bytes, int flags, ...);
int fuzz_mprotect(void *memory, size_t bytes, int access);
int fuzz_madvise(void *memory, size_t bytes, int advice);
ssize_t fuzz_getrandom(void *words, size_t bytes, unsigned flags);

/* Whoever looks at the exact clock has spent some time. */
int fuzz_clock_gettime(clockid_t clock, struct timespec *now)
{
    if (clock == CLOCK_MONOTONIC)
        process.now_ns += 30000;
    *now = (struct timespec){(time_t)(process.now_ns / 1000000000), (long)(process.now_ns % 1000000000)};
    return 0;
}

static bool is_refused(system_call call)
{
    if ((process.refused >> call & 1) == 0 || process.refusals_end == 0)
        return false;
    process.refusals_end--;
    if (process.refusals_begin > 0) {
        process.refusals_begin--;
        return false;
    }
    process.was_refused = true;
    process.kept_addresses |= call == CALL_MUNMAP;
    process.kept_guards |= call == CALL_MPROTECT;
    errno = ENOMEM;
    return true;
}

void *fuzz_mmap(void *memory, size_t bytes, int access, int flags, int file, off_t offset)
{
    if (is_refused(CALL_MMAP))
        return MAP_FAILED;
    void *mapped = mmap(memory, bytes, access, flags, file, offset);
    process.mapped_bytes +=
        mapped != MAP_FAILED && (flags & MAP_FIXED) == 0 ? bytes : 0; /* else it was mapped before */
    return mapped;
}

int fuzz_munmap(void *memory, size_t bytes)
{
    if (is_refused(CALL_MUNMAP))
        return -1;
    int status = munmap(memory, bytes);
    CHECK_EQUAL(status, 0);
    process.mapped_bytes -= bytes;
    return status;
}

/* A target that is given was mapped before. */
void *fuzz_mremap(void *memory, size_t old_bytes, size_t new_bytes, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    void *target = (flags & MREMAP_FIXED) != 0 ? va_arg(more, void *) : NULL;
    va_end(more);
    void *moved = is_refused(CALL_MREMAP) ? MAP_FAILED : mremap(memory, old_bytes, new_bytes, flags, target);
    if (moved != MAP_FAILED)
        process.mapped_bytes += target != NULL ? (size_t)0 - old_bytes : new_bytes - old_bytes;
    else if (target != NULL)
        process.kept_addresses = true; /* nobody can tell whose the target is now, so the core leaves it alone */
    return moved;
}

int fuzz_mprotect(void *memory, size_t bytes, int access)
{
    return is_refused(CALL_MPROTECT) ? -1 : mprotect(memory, bytes, access);
}

int fuzz_madvise(void *memory, size_t bytes, int advice)
{
    return is_refused(CALL_MADVISE) ? -1 : madvise(memory, bytes, advice);
}

/* The same secrets in each run. */
ssize_t fuzz_getrandom(void *words, size_t bytes, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < bytes; i++)
        ((unsigned char *)words)[i] = (unsigned char)(i * 37 + 11);
    return (ssize_t)bytes;
}
