/* SPDX-License-Identifier: MIT
 *
 * Threads on malloc for as long as one likes: they allocate all sizes, free and resize each other's blocks, end and are
 * replaced, fork, and give memory back. Every block's contents are checked before it goes; at quiet moments everything
 * is counted and audited.
 *
 *     stress [SECONDS [SEED]]       rounds of a few seconds, each in a process of its own, with options and a seed of
 *     its own stress round SEED SECONDS     one round, with the options of the environment
 *
 * It is a program for any malloc. With -DLINKED, tests/c/malloc_names.h and the sources of the preload library the
 * allocator is part of it, for sanitizers and valgrind to look into, and every heap is audited.
 */
#define _GNU_SOURCE
#include "blocks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#ifdef LINKED
#include "process.h"
#include "threads.h"
#endif

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define IS_SANITIZED true
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED false
#endif

enum { SEATS = 4, SLOTS = 256, RING = 64, OWN = 64, FORK_MS = 200, QUIET_MS = 300 };

/* ---- the seats ------------------------------------------------------------------------------------------- */

/* A thread sits in each seat, and when it ends another takes its place, with the blocks that it left. */
typedef struct seat {
    pthread_t thread;
    unsigned long seed;
    block *own[OWN];
    block *_Atomic ring[RING]; /* from the seat before this one; nothing flows back */
    size_t sent, received;     /* of the sender, of the receiver */
    atomic_bool is_over;
} seat;

static seat seats[SEATS];
static block *_Atomic slots[SLOTS]; /* what one puts in any other takes out */
static atomic_bool is_over;
static atomic_ulong next_fork_ms;
static atomic_size_t forks, threads, quiet_moments, blocks;

/* Quiet moments: everyone parks until it is over. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t has_changed = PTHREAD_COND_INITIALIZER;
static atomic_bool is_quiet_wanted;
static unsigned parked; /* [lock] */

static unsigned long clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned long)now.tv_sec * 1000 + (unsigned long)now.tv_nsec / 1000000;
}

static void sleep_ms(unsigned ms) { usleep(ms * 1000); }

static block *exchange(unsigned long *random, block *b)
{
    return atomic_exchange_explicit(&slots[next_random(random) % SLOTS], b, memory_order_acq_rel);
}

static block *send(seat *to, block *b)
{
    block *_Atomic *place = &to->ring[to->sent % RING];
    if (atomic_load_explicit(place, memory_order_relaxed) != NULL)
        return b; /* full */
    atomic_store_explicit(place, b, memory_order_release);
    to->sent++;
    return NULL;
}

static block *receive(seat *s)
{
    block *b = atomic_load_explicit(&s->ring[s->received % RING], memory_order_acquire);
    if (b != NULL)
        atomic_store_explicit(&s->ring[s->received++ % RING], NULL, memory_order_relaxed);
    return b;
}

static void park(void)
{
    pthread_mutex_lock(&lock);
    parked++;
    pthread_cond_broadcast(&has_changed);
    while (is_quiet_wanted)
        pthread_cond_wait(&has_changed, &lock);
    parked--;
    pthread_mutex_unlock(&lock);
}

/* ---- what can be seen from outside ----------------------------------------------------------------------- */

#ifdef LINKED
static void audit_own(void) { REQUIRE(process_audit() == NULL); }

/* All other threads are parked, so one may look into their heaps. */
static void audit_all(size_t live)
{
    space *s = process_space();
    for (heap *h = s->heaps; h != NULL; h = h->next)
        REQUIRE(heap_audit(h) == NULL);
    space_stats stats = space_statistics(s);
    pymem_counters counters;
    REQUIRE(process_count(DOMAIN_MALLOC, &counters));
    REQUIRE(counters.served_blocks - counters.freed_blocks == live);
    REQUIRE(s->options.is_hardened ? stats.live_objects >= live : stats.live_objects == live); /* some in quarantine */
    REQUIRE(stats.live_bytes + stats.free_bytes + stats.tail_bytes + stats.resting_bytes == stats.mapped_bytes);
}

static void check_nothing_is_left(void)
{
    audit_all(0);
    malloc_trim(0);
    REQUIRE(process_space()->options.is_hardened || space_statistics(process_space()).mapped_bytes == 0);
}
#else
static void audit_own(void) {}
static void audit_all(size_t live) { (void)live; }
static void check_nothing_is_left(void) { malloc_trim(0); }
#endif

/* ---- a thread's work ------------------------------------------------------------------------------------- */

static void *work_in_child(void *context)
{
    unsigned long random = (unsigned long)context;
    block *some[50];
    for (int i = 0; i < 50; i++)
        some[i] = block_new(&random);
    for (int i = 0; i < 50; i++)
        block_delete(block_resize(some[i], &random));
    return NULL;
}

/* The child has this thread alone: everyone's blocks are there, and may be freed. What others have in hand is left. */
static _Noreturn void be_child(seat *s, unsigned long random)
{
    alarm(60);
    audit_own();
    for (int i = 0; i < SLOTS; i++) {
        block *b = atomic_exchange(&slots[i], NULL);
        block_delete(b != NULL && i % 3 == 0 ? block_resize(b, &random) : b);
    }
    for (int i = 0; i < OWN; i++)
        block_delete(s->own[i]);
    work_in_child((void *)random);
    if (!IS_SANITIZED) { /* sanitizers don't let it */
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, work_in_child, (void *)(random | 1)) == 0);
        REQUIRE(pthread_join(thread, NULL) == 0);
    }
    malloc_trim(0);
    audit_own();
    _exit(0);
}

static void fork_once(seat *s, unsigned long random)
{
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0)
        be_child(s, random);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    atomic_fetch_add(&forks, 1);
}

/* False: the thread ends. */
static bool do_what_is_rare(seat *s, unsigned long *random)
{
    unsigned long dice = next_random(random) % 12, due = atomic_load(&next_fork_ms), now = clock_ms();
    if (dice == 0)
        malloc_trim(0);
    else if (dice == 1)
        audit_own();
    else if (now >= due && atomic_compare_exchange_strong(&next_fork_ms, &due, now + FORK_MS))
        fork_once(s, next_random(random));
    return dice != 2;
}

static void step(seat *s, seat *next, unsigned long *random)
{
    unsigned long dice = next_random(random) % 100;
    block **own = &s->own[next_random(random) % OWN], *b = NULL;
    if (dice < 30) {
        block_delete(exchange(random, block_new(random)));
    } else if (dice < 40) {
        block_delete(send(next, block_new(random)));
    } else if (dice < 52) {
        block_delete(receive(s));
    } else if (dice < 65) {
        b = exchange(random, NULL);
        block_delete(exchange(random, b == NULL ? NULL : block_resize(b, random)));
    } else if (*own == NULL) {
        *own = block_new(random);
    } else {
        block_delete(*own);
        *own = NULL;
    }
    atomic_fetch_add_explicit(&blocks, dice < 40, memory_order_relaxed);
}

static void *sit(void *context)
{
    seat *s = context, *next = &seats[(s - seats + 1) % SEATS];
    unsigned long random = s->seed;
    for (bool goes_on = true; goes_on && !atomic_load_explicit(&is_over, memory_order_relaxed);) {
        for (int i = 0; i < 100; i++)
            step(s, next, &random);
        if (atomic_load_explicit(&is_quiet_wanted, memory_order_relaxed))
            park();
        else if (next_random(&random) % 4 == 0)
            goes_on = do_what_is_rare(s, &random);
    }
    atomic_store(&s->is_over, true);
    return NULL;
}

/* ---- a round --------------------------------------------------------------------------------------------- */

static void take_seat(seat *s)
{
    s->seed = s->seed * 6364136223846793005ul + 1442695040888963407ul;
    s->is_over = false;
    atomic_fetch_add(&threads, 1);
    REQUIRE(pthread_create(&s->thread, NULL, sit, s) == 0);
}

static void replace_those_who_ended(void)
{
    for (seat *s = seats; s < seats + SEATS; s++)
        if (s->is_over) {
            REQUIRE(pthread_join(s->thread, NULL) == 0);
            take_seat(s);
        }
}

static size_t count_blocks(void)
{
    size_t live = 0;
    for (int i = 0; i < SLOTS; i++)
        live += slots[i] != NULL;
    for (seat *s = seats; s < seats + SEATS; s++) {
        for (int i = 0; i < OWN; i++)
            live += s->own[i] != NULL;
        for (int i = 0; i < RING; i++)
            live += s->ring[i] != NULL;
    }
    return live;
}

static void be_quiet(void)
{
    atomic_store(&is_quiet_wanted, true);
    for (bool are_all = false; !are_all; sleep_ms(1)) { /* one that ends is not replaced meanwhile */
        unsigned ended = 0;
        for (seat *s = seats; s < seats + SEATS; s++)
            ended += s->is_over;
        pthread_mutex_lock(&lock);
        are_all = parked + ended == SEATS;
        pthread_mutex_unlock(&lock);
    }
}

static void end_quiet(void)
{
    pthread_mutex_lock(&lock);
    atomic_store(&is_quiet_wanted, false);
    pthread_cond_broadcast(&has_changed);
    pthread_mutex_unlock(&lock);
}

static int play(unsigned long seed, unsigned long seconds)
{
    alarm((unsigned)seconds + 200); /* what hangs */
    unsigned long end_ms = clock_ms() + seconds * 1000, quiet_ms = 0;
    for (seat *s = seats; s < seats + SEATS; s++) {
        s->seed = seed * SEATS + (unsigned long)(s - seats) + 1;
        take_seat(s);
    }
    for (unsigned long now; (now = clock_ms()) < end_ms || forks == 0 || threads == SEATS; sleep_ms(5)) {
        replace_those_who_ended();
        if (now < quiet_ms)
            continue;
        be_quiet();
        audit_all(count_blocks());
        atomic_fetch_add(&quiet_moments, 1);
        end_quiet();
        quiet_ms = clock_ms() + QUIET_MS;
    }
    is_over = true;
    for (seat *s = seats; s < seats + SEATS; s++)
        REQUIRE(pthread_join(s->thread, NULL) == 0);
    audit_all(count_blocks());
    for (int i = 0; i < SLOTS; i++)
        block_delete(slots[i]);
    for (seat *s = seats; s < seats + SEATS; s++) {
        for (int i = 0; i < OWN; i++)
            block_delete(s->own[i]);
        for (int i = 0; i < RING; i++)
            block_delete(s->ring[i]);
    }
    check_nothing_is_left();
    printf("seed %lu: %zu blocks changed hands, %zu threads, %zu forks, %zu quiet moments\n", seed, blocks, threads,
           forks, quiet_moments);
    return 0;
}

/* ---- rounds ---------------------------------------------------------------------------------------------- */

typedef struct option {
    const char *name, *values[4];
} option;

static const option options[] = {
    {"SLABMALLOC_DECAY_MS", {"1000", "0", "1", "30"}},
    {"SLABMALLOC_CLASSES", {"default", "default", "powers-of-two", "geometric:2"}},
    {"SLABMALLOC_CACHE_BYTES", {"67108864", "0", "1000000", "67108864"}},
    {"SLABMALLOC_RESERVE", {"68719476736", "8388608", "1073741824", "16777216"}},
    {"SLABMALLOC_HUGE_PAGES", {"0", "0", "0", "1"}},
    {"SLABMALLOC_HARDENED", {"0", "0", "0", "1"}},
};
enum { OPTIONS = sizeof(options) / sizeof(options[0]) };

static const char *value_of(const option *o, unsigned long *random) { return o->values[next_random(random) % 4]; }

static bool run_round(char *program, unsigned long seed, unsigned long seconds)
{
    char seed_text[32], seconds_text[32];
    snprintf(seed_text, sizeof(seed_text), "%lu", seed);
    snprintf(seconds_text, sizeof(seconds_text), "%lu", seconds);
    char *arguments[] = {program, "round", seed_text, seconds_text, NULL};
    unsigned long random = seed * 2654435761ul + 1, again = random;
    fflush(NULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        for (int i = 0; i < OPTIONS; i++)
            setenv(options[i].name, value_of(&options[i], &random), 0); /* what is set already stays */
        execv(program, arguments);
        _exit(127);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    if (status == 0)
        return true;
    printf("seed %lu failed, status 0x%x:", seed, (unsigned)status);
    for (int i = 0; i < OPTIONS; i++) {
        const char *drawn = value_of(&options[i], &again), *set = getenv(options[i].name);
        printf(" %s=%s", options[i].name, set != NULL ? set : drawn);
    }
    printf(" %s round %lu %lu\n", program, seed, seconds);
    return false;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 4 && strcmp(argv[1], "round") == 0)
        return play(strtoul(argv[2], NULL, 0), strtoul(argv[3], NULL, 0));
    unsigned long seconds = argc > 1 ? strtoul(argv[1], NULL, 0) : 2, seed = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
    unsigned long begin_ms = clock_ms(), left = seconds, passed = 0, failed = 0;
    while (left > 0) {
        *(run_round(argv[0], seed++, left < 5 ? left : 5) ? &passed : &failed) += 1;
        unsigned long spent = (clock_ms() - begin_ms + 999) / 1000;
        left = seconds > spent ? seconds - spent : 0;
    }
    printf("%lu passed, %lu failed\n", passed, failed);
    return failed != 0;
}
