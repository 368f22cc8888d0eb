/* SPDX-License-Identifier: MIT
 *
 * The workloads, once, for all sides. A side is a program that includes this file and then defines the `side_*`
 * functions; the compiler inlines them, so that each side pays exactly its own calls: `malloc` of the preloaded
 * library, or the core's functions from a static archive. `main` is here: PROGRAM WORKLOAD SIZE [key=value ...], one
 * JSON object on stdout.
 *
 * An object's time is that of one allocation and its free. Objects are written to once, as programs do, but in `pair`,
 * which repeats the seed's loop.
 */
#ifndef BENCHMARKS_WORKLOADS_H
#define BENCHMARKS_WORKLOADS_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "measure.h"

enum { BATCH_COUNT = 1000, PERMUTATIONS = 8, LIVE_COUNT = 100000, LIVE_MAX_BYTES = 1024 };
enum { CHUNK_COUNT = 20000, REMOTE_CHUNK_COUNT = 1 << 17 }; /* objects between two looks at the clock */

/* ---- what a side defines --------------------------------------------------------------------------------- */

static void side_begin(size_t size);            /* before anything else, by the owner's thread */
static inline void *side_allocate(size_t size); /* NULL: out of memory */
static inline bool side_deallocate(void *object, size_t size);
static size_t side_usable_bytes(void *object, size_t size); /* size after class rounding */
static void side_print_memory(void);                        /* more members of the JSON object "memory" */
static void side_print_identity(void);                      /* a JSON string: who serves the allocations */

/* ---- what the workloads do to one object ----------------------------------------------------------------- */

static inline void *allocate_or_fail(size_t size)
{
    void *object = side_allocate(size);
    if (__builtin_expect(object == NULL, 0))
        fail("out of memory");
    return object;
}

static inline void deallocate_or_fail(void *object, size_t size)
{
    if (__builtin_expect(!side_deallocate(object, size), 0))
        fail("a free was refused");
}

/* ---- pair: allocate, deallocate (the seed's benchmark) --------------------------------------------------- */

/* Every workload is a function that serves `objects` objects or a few more, and returns how many. */
static size_t pair(size_t size, size_t objects)
{
    for (size_t i = 0; i < objects; i++) {
        void *object = allocate_or_fail(size);
        escape(object);
        deallocate_or_fail(object, size);
    }
    return objects;
}

/* ---- batches: BATCH_COUNT allocations, then BATCH_COUNT frees in a given order --------------------------- */

static uint16_t batch_order[PERMUTATIONS][BATCH_COUNT];

static void batch_order_fill(const char *order)
{
    uint64_t random = 0x9E3779B97F4A7C15u;
    for (size_t p = 0; p < PERMUTATIONS; p++) {
        for (uint16_t i = 0; i < BATCH_COUNT; i++)
            batch_order[p][i] = strcmp(order, "lifo") == 0 ? (uint16_t)(BATCH_COUNT - 1 - i) : i;
        for (uint32_t i = BATCH_COUNT - 1; i > 0 && strcmp(order, "random") == 0; i--) {
            uint32_t j = random_below(&random, i + 1);
            uint16_t kept = batch_order[p][i];
            batch_order[p][i] = batch_order[p][j];
            batch_order[p][j] = kept;
        }
    }
}

static size_t batches(size_t size, size_t objects)
{
    static void *batch[BATCH_COUNT];
    size_t done = 0;
    for (size_t round = 0; done < objects; round++, done += BATCH_COUNT) {
        const uint16_t *order = batch_order[round % PERMUTATIONS];
        for (size_t i = 0; i < BATCH_COUNT; i++) {
            batch[i] = allocate_or_fail(size);
            touch(batch[i]);
        }
        escape(batch);
        for (size_t i = 0; i < BATCH_COUNT; i++)
            deallocate_or_fail(batch[order[i]], size);
    }
    return done;
}

/* ---- remote: this thread allocates, another one frees ---------------------------------------------------- */

enum { PARCEL_COUNT = 256, RING_COUNT = 16, SPINS_BEFORE_YIELD = 2000 };

/* Parcels of objects; sent - RING_COUNT <= freed <= sent. The sender writes the parcels in [freed, freed +
 * RING_COUNT). */
static struct {
    void *parcels[RING_COUNT][PARCEL_COUNT];
    _Alignas(128) _Atomic size_t sent;  /* written by the allocating thread */
    _Alignas(128) _Atomic size_t freed; /* written by the freeing thread */
    _Alignas(128) atomic_bool over;
    size_t size;
} ring;

static inline void wait_until_above(_Atomic size_t *count, size_t limit)
{
    for (unsigned spins = 1; atomic_load_explicit(count, memory_order_acquire) <= limit; spins++) {
        if (spins % SPINS_BEFORE_YIELD == 0) {
            if (atomic_load_explicit(&ring.over, memory_order_relaxed))
                return;
            sched_yield();
        }
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    }
}

static void *free_parcels(void *unused)
{
    for (size_t taken = 0;; taken++) {
        wait_until_above(&ring.sent, taken);
        if (atomic_load_explicit(&ring.over, memory_order_relaxed))
            return unused;
        void **parcel = ring.parcels[taken % RING_COUNT];
        for (size_t i = 0; i < PARCEL_COUNT; i++)
            deallocate_or_fail(parcel[i], ring.size);
        atomic_store_explicit(&ring.freed, taken + 1, memory_order_release);
    }
}

/* The n-th processor that this process may use: two threads that share one would measure the scheduler. */
static void run_on(pthread_t thread, int n)
{
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || n-- > 0)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        pthread_setaffinity_np(thread, sizeof one, &one);
        return;
    }
    fail("remote needs two processors");
}

static pthread_t remote_start(size_t size)
{
    pthread_t thread;
    ring.size = size;
    if (pthread_create(&thread, NULL, free_parcels, NULL) != 0)
        fail("no second thread");
    run_on(thread, 1);
    run_on(pthread_self(), 0);
    return thread;
}

static void remote_stop(pthread_t thread)
{
    atomic_store(&ring.over, true);
    pthread_join(thread, NULL);
}

static size_t remote(size_t size, size_t objects)
{
    size_t first = atomic_load_explicit(&ring.sent, memory_order_relaxed), sent = first;
    for (; (sent - first) * PARCEL_COUNT < objects; sent++) {
        if (sent >= RING_COUNT)
            wait_until_above(&ring.freed, sent - RING_COUNT);
        void **parcel = ring.parcels[sent % RING_COUNT];
        for (size_t i = 0; i < PARCEL_COUNT; i++) {
            parcel[i] = allocate_or_fail(size);
            touch(parcel[i]);
        }
        atomic_store_explicit(&ring.sent, sent + 1, memory_order_release);
    }
    wait_until_above(&ring.freed, sent - 1);
    return (sent - first) * PARCEL_COUNT;
}

/* ---- live: LIVE_COUNT objects of 1 ... LIVE_MAX_BYTES bytes, replaced at random -------------------------- */

static struct {
    void *objects[LIVE_COUNT];
    uint32_t sizes[LIVE_COUNT];
    uint64_t random;
    size_t resident_before_bytes;
} live;

static size_t resident_bytes(void)
{ /* PSS: memory shared with other processes counts in part */
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    size_t kibibytes = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Pss: %zu kB", &kibibytes) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kibibytes * 1024;
}

static inline void live_renew(size_t i)
{
    uint32_t size = 1 + random_below(&live.random, LIVE_MAX_BYTES);
    live.sizes[i] = size;
    live.objects[i] = allocate_or_fail(size);
    touch(live.objects[i]);
}

static void live_start(uint64_t seed)
{
    live.random = seed * 0x9E3779B97F4A7C15u + 1;
    for (size_t i = 0; i < LIVE_COUNT; i++)
        live.sizes[i] = 1, live.objects[i] = &live; /* the tables' own memory, first */
    resident_bytes();
    live.resident_before_bytes = resident_bytes();
    for (size_t i = 0; i < LIVE_COUNT; i++)
        live_renew(i);
}

static size_t live_replace(size_t unused_size, size_t objects)
{
    (void)unused_size;
    for (size_t n = 0; n < objects; n++) {
        size_t i = random_below(&live.random, LIVE_COUNT);
        deallocate_or_fail(live.objects[i], live.sizes[i]);
        live_renew(i);
    }
    return objects;
}

static void live_print(void)
{
    size_t requested = 0, usable = 0;
    for (size_t i = 0; i < LIVE_COUNT; i++) {
        requested += live.sizes[i];
        usable += side_usable_bytes(live.objects[i], live.sizes[i]);
    }
    printf(", \"memory\": {\"requested_bytes\": %zu, \"usable_bytes\": %zu, \"resident_bytes\": %zu", requested, usable,
           resident_bytes() - live.resident_before_bytes);
    side_print_memory();
    printf("}");
}

/* ---- the program ---------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
    if (argc < 3)
        fail("usage: PROGRAM pair|fifo|lifo|random|remote|live SIZE [slice_ms=N] [slices=N] ...");
    const char *workload = argv[1];
    size_t size = (size_t)strtol(argv[2], NULL, 10);
    option_count = argc - 3;
    option_words = argv + 3;
    side_begin(size);
    printf("{\"workload\": \"%s\", \"size\": %zu, \"served_by\": ", workload, size);
    side_print_identity();
    if (strcmp(workload, "pair") == 0) {
        escape(allocate_or_fail(size)); /* stays, as in the seed: the slab is never empty */
        measure(pair, size, CHUNK_COUNT, 0);
    } else if (strcmp(workload, "remote") == 0) {
        used_clock = CLOCK_MONOTONIC; /* two threads: only the time on the wall tells how fast they are together */
        pthread_t thread = remote_start(size);
        measure(remote, size, REMOTE_CHUNK_COUNT, 0);
        remote_stop(thread);
    } else if (strcmp(workload, "live") == 0) {
        live_start((uint64_t)option("seed", 1));
        measure(live_replace, size, CHUNK_COUNT, 5 * LIVE_COUNT);
        live_print();
    } else {
        if (strcmp(workload, "fifo") && strcmp(workload, "lifo") && strcmp(workload, "random"))
            fail("no such workload");
        batch_order_fill(workload);
        measure(batches, size, CHUNK_COUNT, 0);
    }
    printf("}\n");
    return 0;
}

#endif
