/* SPDX-License-Identifier: MIT
 *
 * Threads on malloc: they free each other's blocks, end, fork, and leave work to destructors. An alarm ends what hangs.
 */
#define _GNU_SOURCE
#include "check.h"

#include <malloc.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

extern char **environ;

typedef struct block {
    size_t bytes;
    unsigned long seed;
    unsigned char content[];
} block;

static block *block_new(unsigned long *random)
{
    unsigned long dice = next_random(random);
    size_t bytes = sizeof(block) + ((dice >> 8 & 0x3FFFF) >> (dice >> 32) % 18);
    block *b = NULL;
    if (dice % 4 == 0)
        b = calloc(1, bytes);
    else if (dice % 4 == 1)
        REQUIRE(posix_memalign((void **)&b, (size_t)16 << (dice >> 40) % 9, bytes) == 0);
    else
        b = malloc(bytes);
    REQUIRE(b != NULL && (uintptr_t)b % 16 == 0);
    if (dice % 4 == 0)
        REQUIRE(is_zero(b, bytes));
    *b = (block){.bytes = bytes - sizeof(block), .seed = dice};
    paint(b->content, b->bytes, b->seed);
    return b;
}

static block *block_resize(block *b, unsigned long *random)
{
    size_t kept = b->bytes, bytes = next_random(random) % (2 * kept + 100);
    b = realloc(b, sizeof(block) + bytes);
    REQUIRE(b != NULL && is_painted(b->content, kept < bytes ? kept : bytes, b->seed));
    b->bytes = bytes;
    paint(b->content, bytes, b->seed);
    return b;
}

static void block_delete(block *b)
{
    if (b == NULL)
        return;
    REQUIRE(is_painted(b->content, b->bytes, b->seed) && malloc_usable_size(b) >= sizeof(block) + b->bytes);
    memset(b->content, 0xEE, b->bytes); /* two holders of the same memory would notice */
    free(b);
}

enum { THREADS = 4, SLOTS = 256 };
static _Atomic(block *) slots[SLOTS]; /* what one thread puts in another takes out */
static _Atomic int stop;

/* `rounds` blocks; 0: until told to stop. */
static void churn(unsigned long random, int rounds)
{
    for (int i = 0; rounds == 0 ? !stop : i < rounds; i++) {
        size_t slot = next_random(&random) % SLOTS;
        block *b = i % 3 == 0 ? atomic_exchange(&slots[slot], NULL) : block_new(&random);
        if (b != NULL && i % 2 == 0)
            b = block_resize(b, &random);
        block_delete(atomic_exchange(&slots[slot], b));
    }
}

static void clear_slots(void)
{
    for (int i = 0; i < SLOTS; i++)
        block_delete(atomic_exchange(&slots[i], NULL));
}

static void *churn_long(void *context)
{
    churn((unsigned long)context * 2654435761ul, 15000);
    return NULL;
}

static void *churn_on(void *context)
{
    churn((unsigned long)context * 40503ul, 0);
    return NULL;
}

static void start_all(pthread_t *threads, void *(*work)(void *))
{
    for (unsigned long i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
}

static void join_all(pthread_t *threads)
{
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_join(threads[i], NULL) == 0);
}

static void free_each_others_blocks(void)
{
    pthread_t threads[THREADS];
    start_all(threads, churn_long);
    join_all(threads);
    clear_slots();
}

/* One thread makes all blocks, another frees them: what is freed must serve the first again. */
enum { RING = 4096, PASSED = 2000000 };
static void *_Atomic ring[RING];

static void *consume(void *context)
{
    for (int i = 0; i < PASSED; i++) {
        void *b;
        while ((b = atomic_exchange_explicit(&ring[i % RING], NULL, memory_order_acquire)) == NULL)
            sched_yield();
        free(b);
    }
    return context;
}

static void one_makes_another_frees(void)
{
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, consume, NULL) == 0);
    size_t most = 0;
    for (int i = 0; i < PASSED; i++) {
        void *b = malloc((size_t)(i % 7 + 1) * 100);
        REQUIRE(b != NULL);
        memset(b, 1, 100);
        while (atomic_load_explicit(&ring[i % RING], memory_order_relaxed) != NULL)
            sched_yield();
        atomic_store_explicit(&ring[i % RING], b, memory_order_release);
        if (i % 100000 == 0 && held_bytes(1) > most)
            most = held_bytes(1);
    }
    pthread_join(thread, NULL);
    REQUIRE(most < 40 << 20); /* at most 4,096 blocks are out at a time: 3 MiB */
}

/* ---- threads that end ------------------------------------------------------------------------------------- */

static void *live_briefly(void *context)
{
    unsigned long random = (unsigned long)context + 1;
    block *held[8];
    for (int i = 0; i < 8; i++)
        held[i] = block_new(&random);
    for (int i = 0; i < 8; i++)
        block_delete(held[i]);
    return malloc(3000); /* for whoever joins */
}

static void start_and_end(void *(*work)(void *), int count)
{
    for (int i = 0; i < count; i += 2) {
        pthread_t threads[2];
        for (int j = 0; j < 2; j++)
            REQUIRE(pthread_create(&threads[j], NULL, work, (void *)(uintptr_t)(i + j)) == 0);
        for (int j = 0; j < 2; j++) {
            void *left;
            REQUIRE(pthread_join(threads[j], &left) == 0);
            free(left);
        }
    }
}

/* A heap that each thread takes along, 60 KiB at least, would show; what a heap keeps of each class, of as many heaps
 * as there were threads at once, and arenas of the C library's may still come. */
static void memory_is_flat(void *(*work)(void *), int first, int rest)
{
    start_and_end(work, first);
    size_t addresses = held_bytes(0), resident = held_bytes(1);
    start_and_end(work, rest);
    if (held_bytes(0) > addresses + (256 << 20) || held_bytes(1) > resident + (24 << 20) + (size_t)rest * 9216) {
        fprintf(stderr, "after %d threads: %zu KiB of addresses, %zu resident; after %d more: %zu, %zu\n", first,
                addresses >> 10, resident >> 10, rest, held_bytes(0) >> 10, held_bytes(1) >> 10);
        _exit(3);
    }
}

static void ten_thousand_come_and_go(void) { memory_is_flat(live_briefly, 2000, 8000); }

/* Destructors allocate, and set their key again as often as the system allows. */
static pthread_key_t keys[3];
static _Atomic int destroyed, last_rounds;

static void destroy(void *context)
{
    block *b = context;
    unsigned long random = b->seed | 1;
    unsigned long rounds = b->seed >> 60;
    block_delete(b);
    block *next = block_new(&random), *other = block_new(&random);
    block_delete(other);
    destroyed++;
    if (rounds == 3) {
        last_rounds++;
        block_delete(next);
        return;
    }
    next->seed = (rounds + 1) << 60 | 77;
    paint(next->content, next->bytes, next->seed);
    for (int i = 0; i < 3; i++)
        if (pthread_getspecific(keys[i]) == NULL) {
            pthread_setspecific(keys[i], next);
            return;
        }
    block_delete(next);
}

static void *leave_work_to_destructors(void *context)
{
    unsigned long random = (unsigned long)context + 99;
    block *b = block_new(&random);
    b->seed = 5;
    paint(b->content, b->bytes, 5);
    pthread_setspecific(keys[1], b);
    return malloc(100);
}

static void destructors_allocate(void)
{
    for (int i = 0; i < 3; i++)
        REQUIRE(pthread_key_create(&keys[i], destroy) == 0);
    memory_is_flat(leave_work_to_destructors, 200, 800);
    REQUIRE(destroyed >= 1000 && last_rounds > 0);
}

/* The last round of destructors that the system grants (PTHREAD_DESTRUCTOR_ITERATIONS), and threads whose first block
 * is made there. */
static pthread_key_t late_key;
static _Thread_local int late_round;

static void allocate_late(void *context)
{
    if (++late_round < 4) {
        pthread_setspecific(late_key, context);
        return;
    }
    void *b = malloc(2000);
    REQUIRE(b != NULL);
    memset(b, 1, 2000);
    free(b);
}

static void *arm_only(void *context)
{
    pthread_setspecific(late_key, &late_key);
    (void)context;
    return NULL;
}

static void the_last_destructor_allocates(void)
{
    REQUIRE(pthread_key_create(&late_key, allocate_late) == 0);
    memory_is_flat(arm_only, 200, 2000);
}

/* A thread that only frees. */
static void *free_all(void *context)
{
    block **held = context;
    for (int i = 0; i < 1000; i++)
        block_delete(held[i]);
    return NULL;
}

static void a_thread_that_only_frees(void)
{
    unsigned long random = 5;
    static block *held[1000];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 1000; i++)
            held[i] = block_new(&random);
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, free_all, held) == 0);
        REQUIRE(pthread_join(thread, NULL) == 0);
    }
    for (int i = 0; i < 1000; i++) /* collects */
        held[i] = block_new(&random);
    free_all(held);
    REQUIRE(mallinfo2().uordblks + mallinfo2().hblkhd < 20 << 20);
}

/* ---- fork ------------------------------------------------------------------------------------------------- */

static void wait_for(pid_t child)
{
    int status;
    REQUIRE(waitpid(child, &status, 0) == child);
    if (status != 0)
        fprintf(stderr, "a child ended with status %#x\n", status);
    REQUIRE(status == 0);
}

/* What a child does: frees what its parent's threads made, allocates, starts a thread. */
static void live(block **gifts, int count, unsigned long random)
{
    for (int i = 0; i < count; i += 2) {
        block_delete(gifts[i]);
        gifts[i] = block_new(&random);
        gifts[i + 1] = block_resize(gifts[i + 1], &random);
    }
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, live_briefly, NULL) == 0);
    void *left;
    REQUIRE(pthread_join(thread, &left) == 0);
    free(left);
}

/* The same, and forks in its turn. */
_Noreturn static void live_as_child(block **gifts, int count)
{
    pid_t child = 0;
    for (int generation = 0; generation < 2 && child == 0; generation++) {
        alarm(60);
        live(gifts, count, (unsigned long)getpid());
        child = generation == 0 ? fork() : 0;
        REQUIRE(child >= 0);
    }
    if (child != 0)
        wait_for(child);
    for (int i = 0; i < count; i++)
        block_delete(gifts[i]);
    malloc_trim(0);
    _exit(0);
}

enum { GIFTS = 100 };
static block *gifts[GIFTS];

static void *make_gifts(void *context)
{
    unsigned long random = (unsigned long)context, first = (unsigned long)context - 1;
    for (unsigned long i = first * GIFTS / THREADS; i < (first + 1) * GIFTS / THREADS; i++)
        gifts[i] = block_new(&random);
    return churn_on(context);
}

static void fork_with_threads_at_work(void)
{
    alarm(100);
    pthread_t threads[THREADS];
    start_all(threads, make_gifts);
    for (int i = 0; i < GIFTS; i++)
        while (((block *volatile *)gifts)[i] == NULL)
            sched_yield();
    usleep(20000);
    for (int i = 0; i < 15; i++) {
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0)
            live_as_child(gifts, GIFTS);
        wait_for(child);
    }
    stop = 1;
    join_all(threads);
    clear_slots();
    for (int i = 0; i < GIFTS; i++)
        block_delete(gifts[i]);
}

static void *fork_often(void *context)
{
    unsigned long random = (unsigned long)context;
    for (int i = 0; i < 15; i++) {
        block *own[10];
        for (int j = 0; j < 10; j++)
            own[j] = block_new(&random);
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0)
            live_as_child(own, 10);
        wait_for(child);
        for (int j = 0; j < 10; j++)
            block_delete(own[j]);
        churn(random, 200);
    }
    return NULL;
}

static void threads_that_fork(void)
{
    alarm(100);
    pthread_t threads[THREADS];
    start_all(threads, fork_often);
    join_all(threads);
    clear_slots();
}

static void start_programs_with_threads_at_work(void)
{
    alarm(100);
    pthread_t threads[THREADS];
    start_all(threads, churn_on);
    for (int i = 0; i < 20; i++) {
        pid_t child;
        char *arguments[] = {"true", NULL};
        REQUIRE(posix_spawnp(&child, "true", NULL, NULL, arguments, environ) == 0);
        wait_for(child);
        REQUIRE(system("exit 0") == 0);
        char word[16];
        FILE *pipe = popen("echo word", "r");
        REQUIRE(pipe != NULL && fgets(word, sizeof(word), pipe) != NULL && strcmp(word, "word\n") == 0);
        REQUIRE(pclose(pipe) == 0);
    }
    stop = 1;
    join_all(threads);
    clear_slots();
}

/* ---- the end of the process -------------------------------------------------------------------------------- */

static void at_exit(void)
{
    unsigned long random = 3;
    for (int i = 0; i < 1000; i++)
        block_delete(block_new(&random));
    block_delete(atomic_exchange(&slots[0], NULL));
    if (write(STDOUT_FILENO, "atexit\n", 7) != 7)
        _exit(3);
}

__attribute__((destructor)) static void at_the_very_end(void)
{
    unsigned long random = 7;
    for (int i = 0; i < 1000; i++)
        block_delete(block_new(&random));
    if (write(STDOUT_FILENO, "destructor\n", 11) != 11)
        _exit(3);
}

static void handlers_at_the_end_allocate(void)
{
    unsigned long random = 11;
    for (int i = 0; i < 100; i++) /* more than there is room for in advance */
        REQUIRE(atexit(i == 0 ? at_exit : clear_slots) == 0);
    slots[0] = block_new(&random);
    slots[1] = block_new(&random);
    pthread_t threads[THREADS]; /* which are still at work then */
    start_all(threads, churn_on);
    usleep(10000);
}

static const test_case cases[] = {
    {"free_each_others_blocks", free_each_others_blocks},
    {"one_makes_another_frees", one_makes_another_frees},
    {"ten_thousand_come_and_go", ten_thousand_come_and_go},
    {"destructors_allocate", destructors_allocate},
    {"the_last_destructor_allocates", the_last_destructor_allocates},
    {"a_thread_that_only_frees", a_thread_that_only_frees},
    {"fork_with_threads_at_work", fork_with_threads_at_work},
    {"threads_that_fork", threads_that_fork},
    {"start_programs_with_threads_at_work", start_programs_with_threads_at_work},
    {"handlers_at_the_end_allocate", handlers_at_the_end_allocate},
};

int main(int argc, char **argv) { return main_of(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
