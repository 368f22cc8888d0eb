/* SPDX-License-Identifier: MIT
 *
 * How long single calls of an allocator take while it gives memory back: a large heap is built, most of it is dropped,
 * and a little work goes on for a while. A library, which programs/pauses.py compiles and calls in the process that is
 * measured. Each call is timed by two clocks: the exact one for the median, and the thread's processor time for the
 * long ones, which must not be those of another process. Blocks are touched between the calls, by nobody's clock.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { SMALL_BYTES = 2048 };

typedef struct pauses {
    double p50_ns, p999_us, longest_ms, longest_small_ms;
    uint64_t calls;
    char longest_call[64];
} pauses;

typedef struct allocator {
    void *(*allocate)(size_t bytes);
    void (*deallocate)(void *block);
    int advises; /* as NumPy does: huge pages for whole OS pages of what is large */
} allocator;

/* ---- times -------------------------------------------------------------------------------------------------- */

/* By binary logarithm, each in 32 steps. */
enum { STEPS_LOG2 = 5, STEPS = 1 << STEPS_LOG2, BUCKETS = 64 * STEPS };

typedef struct histogram {
    uint64_t counts[BUCKETS], clock_ns; /* what reading the clocks takes is taken off */
} histogram;

static histogram wall, cpu;
static uint64_t calls, longest_ns, longest_small_ns;
static char longest_call[64];

static uint64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static unsigned bucket_of(uint64_t ns)
{
    if (ns < STEPS)
        return (unsigned)ns;
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - STEPS_LOG2;
    return (shift + 1) * STEPS + (unsigned)(ns >> shift) - STEPS;
}

static uint64_t least_of(unsigned bucket)
{
    return bucket < STEPS ? bucket : (uint64_t)(bucket % STEPS + STEPS) << (bucket / STEPS - 1);
}

static uint64_t note(histogram *h, uint64_t ns)
{
    ns -= ns < h->clock_ns ? ns : h->clock_ns;
    h->counts[bucket_of(ns)]++;
    return ns;
}

static uint64_t percentile(const histogram *h, double share)
{
    uint64_t below = 0;
    for (unsigned bucket = 0; bucket < BUCKETS; bucket++)
        if ((double)(below += h->counts[bucket]) >= share * (double)calls)
            return least_of(bucket);
    return 0;
}

typedef struct stopwatch {
    uint64_t cpu_ns, wall_ns;
} stopwatch;

static stopwatch begin(void)
{
    uint64_t cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    return (stopwatch){cpu_ns, now_ns(CLOCK_MONOTONIC)};
}

static void end(stopwatch start, const char *what, const char *when, size_t bytes)
{
    uint64_t wall_ns = now_ns(CLOCK_MONOTONIC), cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    note(&wall, wall_ns - start.wall_ns);
    cpu_ns = note(&cpu, cpu_ns - start.cpu_ns);
    calls++;
    if (bytes <= SMALL_BYTES && cpu_ns > longest_small_ns)
        longest_small_ns = cpu_ns;
    if (cpu_ns <= longest_ns)
        return;
    longest_ns = cpu_ns;
    snprintf(longest_call, sizeof(longest_call), "%s of %zu bytes, %s", what, bytes, when);
}

static void reset(void)
{
    wall = cpu = (histogram){.clock_ns = 0};
    calls = 0;
    for (int i = 0; i < 1000; i++)
        end(begin(), "nothing", "", 0);
    wall = (histogram){.clock_ns = percentile(&wall, 0.5)};
    cpu = (histogram){.clock_ns = percentile(&cpu, 0.5)};
    calls = longest_ns = longest_small_ns = 0;
}

/* ---- work --------------------------------------------------------------------------------------------------- */

enum { MOST_KINDS = 8, OS_PAGE_BYTES = 4096, ADVISED_BYTES = 1 << 22 };

typedef struct block {
    unsigned char *at;
    size_t bytes;
} block;

static uint64_t random_state;

static uint64_t random_below(uint64_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (random_state >> 16) % bound;
}

static bool make(const allocator *a, block *b, size_t bytes, const char *when)
{
    stopwatch start = begin();
    b->at = a->allocate(bytes);
    end(start, "allocation", when, bytes);
    b->bytes = bytes;
    if (a->advises && b->at != NULL && bytes >= ADVISED_BYTES) {
        size_t skipped = OS_PAGE_BYTES - (uintptr_t)b->at % OS_PAGE_BYTES;
        madvise(b->at + skipped, bytes - skipped, MADV_HUGEPAGE);
    }
    for (size_t at = 0; b->at != NULL && at < bytes; at += OS_PAGE_BYTES)
        ((volatile unsigned char *)b->at)[at] = 1;
    return b->at != NULL;
}

static void drop(const allocator *a, block *b, const char *when)
{
    if (b->at == NULL)
        return;
    stopwatch start = begin();
    a->deallocate(b->at);
    end(start, "free", when, b->bytes);
    b->at = NULL;
}

static int by_address(const void *left, const void *right)
{
    uintptr_t a = (uintptr_t)((const block *)left)->at, b = (uintptr_t)((const block *)right)->at;
    return a < b ? -1 : a > b;
}

static void shuffle(block *blocks, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        size_t other = random_below(i);
        block kept = blocks[i - 1];
        blocks[i - 1] = blocks[other];
        blocks[other] = kept;
    }
}

/* As a service has it at night: every millisecond a request of small blocks that come and go, now and then a larger
 * one. */
static bool a_little_work(const allocator *a, size_t largest, long milliseconds)
{
    enum { BLOCKS = 50, LARGE_MS = 25 };
    for (long i = 0; i < milliseconds; i++) {
        block some[BLOCKS];
        for (size_t k = 0; k < BLOCKS; k++) {
            size_t bound = k == 0 && i % LARGE_MS == 0 ? largest : SMALL_BYTES;
            if (!make(a, &some[k], 1 + random_below(bound), "at work"))
                return false;
        }
        for (size_t k = 0; k < BLOCKS; k++)
            drop(a, &some[k], "at work");
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return true;
}

typedef struct heap {
    const allocator *a;
    block *blocks;
    size_t room_bytes, count;
    size_t bytes; /* of all blocks, when it is built */
    const size_t *bounds;
    size_t kinds;
    unsigned kept_per_mille;
    bool is_well;
} heap;

/* An equal share of blocks of each kind. */
static void *build(void *context)
{
    heap *h = context;
    uint64_t share_bytes[MOST_KINDS] = {0}, bytes = 0;
    while (h->is_well && bytes < h->bytes) {
        size_t kind = 0;
        for (size_t k = 1; k < h->kinds; k++)
            kind = share_bytes[k] < share_bytes[kind] ? k : kind;
        size_t more = h->bounds[kind] + 1 + random_below(h->bounds[kind + 1] - h->bounds[kind]);
        h->is_well = make(h->a, &h->blocks[h->count++], more, "building");
        share_bytes[kind] += more;
        bytes += more;
    }
    return NULL;
}

static void *drop_most(void *context)
{
    const heap *h = context;
    for (size_t i = 0; i < h->count; i++)
        if (random_below(1000) >= h->kept_per_mille)
            drop(h->a, &h->blocks[i], "dropping");
    return NULL;
}

static void in_another_thread(void *(*act)(void *context), heap *h)
{
    pthread_t thread;
    h->is_well = h->is_well && pthread_create(&thread, NULL, act, h) == 0 && pthread_join(thread, NULL) == 0;
}

/* The library's, whosever that is. */
allocator pauses_malloc(int advises);
allocator pauses_malloc(int advises) { return (allocator){malloc, free, advises}; }

/* As programs/pauses.py has them: in which order blocks are dropped, and what a thread does that ends then. */
enum { IN_ORDER = 1, OTHER_BUILDS = 2, OTHER_DROPS = 4 };

/* A heap of `heap_bytes` is built, of blocks of more than bounds[i] and at most bounds[i + 1] bytes; all but
 * `kept_per_mille` are dropped, and for `milliseconds` there is a little work. 0: memory was refused. */
int pauses_measure(const allocator *a, size_t heap_bytes, const size_t *bounds, size_t kinds, int how,
                   unsigned kept_per_mille, long milliseconds, pauses *told);
int pauses_measure(const allocator *a, size_t heap_bytes, const size_t *bounds, size_t kinds, int how,
                   unsigned kept_per_mille, long milliseconds, pauses *told)
{
    heap h = {.a = a, .bytes = heap_bytes, .bounds = bounds, .kinds = kinds, .kept_per_mille = kept_per_mille};
    h.room_bytes = (heap_bytes / (bounds[0] + 1) + 1) * sizeof(block);
    h.blocks = mmap(NULL, h.room_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    h.is_well = h.blocks != MAP_FAILED;
    if (!h.is_well)
        return 0;
    random_state = 20250101;
    reset();
    if ((how & OTHER_BUILDS) != 0)
        in_another_thread(build, &h);
    else
        build(&h);
    if ((how & IN_ORDER) != 0)
        qsort(h.blocks, h.count, sizeof(block), by_address);
    else
        shuffle(h.blocks, h.count);
    if ((how & OTHER_DROPS) != 0)
        in_another_thread(drop_most, &h);
    else
        drop_most(&h);
    h.is_well = h.is_well && a_little_work(a, bounds[kinds], milliseconds);
    *told = (pauses){
        .p50_ns = (double)percentile(&wall, 0.5),
        .p999_us = (double)percentile(&cpu, 0.999) / 1e3,
        .longest_ms = (double)longest_ns / 1e6,
        .longest_small_ms = (double)longest_small_ns / 1e6,
        .calls = calls,
    };
    memcpy(told->longest_call, longest_call, sizeof(longest_call));
    for (size_t i = 0; i < h.count; i++)
        if (h.blocks[i].at != NULL)
            a->deallocate(h.blocks[i].at);
    munmap(h.blocks, h.room_bytes);
    return h.is_well;
}
