/* SPDX-License-Identifier: MIT
 *
 * CPython's `raw` domain as the library serves it, without an interpreter: this program says that it is a CPython, by
 * the two functions which tell and set allocators, and so the library installs its hooks. They are called here as
 * CPython calls them: from any thread, before anything else and after everything, side by side with malloc on the same
 * blocks.
 */
#define _GNU_SOURCE
#include "check.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

typedef struct allocator {
    void *context;
    void *(*malloc)(void *context, size_t bytes);
    void *(*calloc)(void *context, size_t count, size_t bytes);
    void *(*realloc)(void *context, void *block, size_t bytes);
    void (*free)(void *context, void *block);
} allocator;

static void *first_malloc(void *context, size_t bytes) { return (void)context, malloc(bytes > 0 ? bytes : 1); }
static void *first_calloc(void *context, size_t count, size_t bytes)
{
    return (void)context, count * bytes == 0 ? calloc(1, 1) : calloc(count, bytes);
}
static void *first_realloc(void *context, void *block, size_t bytes)
{
    return (void)context, realloc(block, bytes > 0 ? bytes : 1);
}
static void first_free(void *context, void *block) { (void)context, free(block); }

static allocator raw = {NULL, first_malloc, first_calloc, first_realloc, first_free};

__attribute__((visibility("default"))) void PyMem_GetAllocator(int domain, allocator *a)
{
    REQUIRE(domain == 0);
    *a = raw;
}

__attribute__((visibility("default"))) void PyMem_SetAllocator(int domain, const allocator *a)
{
    REQUIRE(domain == 0);
    raw = *a;
}

static void *raw_malloc(size_t bytes) { return raw.malloc(raw.context, bytes); }
static void *raw_calloc(size_t count, size_t bytes) { return raw.calloc(raw.context, count, bytes); }
static void *raw_realloc(void *block, size_t bytes) { return raw.realloc(raw.context, block, bytes); }
static void raw_free(void *block) { raw.free(raw.context, block); }

/* ---- one thread ------------------------------------------------------------------------------------------- */

static void the_hooks_are_there(void)
{
    REQUIRE(raw.malloc != first_malloc && raw.calloc != first_calloc);
    REQUIRE(raw.realloc != first_realloc && raw.free != first_free);
}

static const size_t kinds[] = {0, 1, 16, 17, 100, 1024, 1025, 8192, 8193, 131072, 131073, 1000000, 6000000};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* Zero bytes are a block of its own, and so is what has been resized to zero; contents are kept; calloc clears. */
static void every_size(void)
{
    the_hooks_are_there();
    for (int i = 0; i < KINDS; i++)
        for (int j = 0; j < KINDS; j++) {
            unsigned char *block = raw_malloc(kinds[i]), *other = raw_malloc(kinds[i]), *zero = raw_calloc(1, kinds[i]);
            REQUIRE(block != NULL && other != NULL && zero != NULL && block != other && (uintptr_t)block % 16 == 0);
            REQUIRE(malloc_usable_size(block) >= kinds[i] && is_zero(zero, kinds[i]));
            paint(block, kinds[i], (unsigned long)i);
            paint(zero, kinds[i], 77);
            block = raw_realloc(block, kinds[j]);
            REQUIRE(block != NULL && malloc_usable_size(block) >= kinds[j]);
            REQUIRE(is_painted(block, kinds[i] < kinds[j] ? kinds[i] : kinds[j], (unsigned long)i));
            raw_free(block);
            raw_free(other);
            raw_free(zero);
        }
    raw_free(NULL);
    REQUIRE(raw_calloc(SIZE_MAX / 2, 4) == NULL && raw_malloc(SIZE_MAX / 2) == NULL);
    void *block = raw_realloc(NULL, 100);
    REQUIRE(block != NULL && raw_realloc(block, SIZE_MAX / 2) == NULL && malloc_usable_size(block) >= 100);
    raw_free(block);
}

static void errno_is_left_alone(void)
{
    unsigned long random = 5;
    void *held[64] = {NULL};
    errno = 4321;
    for (int i = 0; i < 50000; i++) {
        void **slot = &held[next_random(&random) % 64];
        raw_free(*slot);
        *slot = raw_malloc(next_random(&random) % 3 == 0 ? random % 300000 : random % 3000);
        *slot = raw_realloc(*slot, random % 5000);
        REQUIRE(*slot != NULL && errno == 4321);
    }
    for (int i = 0; i < 64; i++)
        raw_free(held[i]);
}

/* ---- malloc's blocks and raw's ---------------------------------------------------------------------------- */

/* Each is the other's to free and to resize. */
static void *make(unsigned long dice, size_t bytes)
{
    return dice % 4 == 0   ? malloc(bytes)
           : dice % 4 == 1 ? calloc(1, bytes)
           : dice % 4 == 2 ? raw_malloc(bytes)
                           : raw_calloc(bytes, 1);
}

static void *resize(unsigned long dice, void *block, size_t bytes)
{
    return dice % 2 == 0 ? realloc(block, bytes) : raw_realloc(block, bytes);
}

static void give(unsigned long dice, void *block)
{
    if (dice % 2 == 0)
        free(block);
    else
        raw_free(block);
}

static void blocks_change_sides(void)
{
    unsigned long random = 8;
    for (int i = 0; i < 5000; i++) {
        unsigned long dice = next_random(&random);
        size_t bytes = 1 + (dice >> 8 & 0x3FFFF) % (dice >> 40 & 1 ? 300000 : 2000);
        void *block = make(dice, bytes);
        REQUIRE(block != NULL);
        paint(block, bytes, dice);
        size_t more = 1 + (dice >> 20) % (2 * bytes);
        block = resize(dice >> 4, block, more);
        REQUIRE(block != NULL && is_painted(block, more < bytes ? more : bytes, dice));
        give(dice >> 5, block);
    }
}

/* ---- threads ---------------------------------------------------------------------------------------------- */

enum { THREADS = 4, SLOTS = 128, ROUNDS = 5000 };
typedef struct held {
    size_t bytes;
    unsigned long seed;
    unsigned char content[];
} held;
static _Atomic(held *) slots[SLOTS]; /* what one thread puts in another takes out */

static void let_go(held *h, unsigned long dice)
{
    if (h == NULL)
        return;
    REQUIRE(is_painted(h->content, h->bytes, h->seed));
    memset(h->content, 0xEE, h->bytes);
    give(dice, h);
}

static void *churn(void *context)
{
    unsigned long random = (unsigned long)context * 2654435761ul + 1;
    for (int i = 0; i < ROUNDS; i++) {
        unsigned long dice = next_random(&random);
        size_t bytes = (dice >> 8 & 0x3FFFF) >> (dice >> 32) % 18;
        held *h = make(dice, sizeof(held) + bytes);
        REQUIRE(h != NULL);
        *h = (held){.bytes = bytes, .seed = dice};
        paint(h->content, bytes, dice);
        let_go(atomic_exchange(&slots[dice >> 50 & (SLOTS - 1)], h), dice >> 3);
    }
    return NULL;
}

static void clear_slots(void)
{
    for (int i = 0; i < SLOTS; i++)
        let_go(atomic_exchange(&slots[i], NULL), (unsigned long)i);
}

static void run_threads(void *(*work)(void *))
{
    pthread_t threads[THREADS];
    for (unsigned long i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_join(threads[i], NULL) == 0);
}

static void threads_free_each_others_blocks(void)
{
    run_threads(churn);
    clear_slots();
}

static void *only_free(void *block)
{
    raw_free(block);
    return NULL;
}

static void *live_briefly(void *context)
{
    (void)context;
    void *blocks[8];
    for (size_t i = 0; i < 8; i++)
        REQUIRE((blocks[i] = raw_malloc(i * 777)) != NULL);
    for (size_t i = 0; i < 8; i++)
        raw_free(blocks[i]);
    return raw_malloc(3000); /* for whoever joins */
}

static void threads_come_and_go(void)
{
    size_t resident = 0;
    for (int i = 0; i < 4000; i++) {
        pthread_t thread;
        void *left;
        REQUIRE(pthread_create(&thread, NULL, live_briefly, NULL) == 0 && pthread_join(thread, &left) == 0);
        REQUIRE(pthread_create(&thread, NULL, only_free, left) == 0 && pthread_join(thread, NULL) == 0);
        if (i == 1000)
            resident = held_bytes(1);
    }
    REQUIRE(held_bytes(1) < resident + (8 << 20));
}

/* In the last rounds of its destructors a thread has no heap any more. */
static pthread_key_t key;
static _Atomic int destroyed;
static void destroy(void *block)
{
    unsigned long rounds = *(unsigned long *)block;
    raw_free(block);
    unsigned long *next = raw_malloc(500);
    REQUIRE(next != NULL);
    next = raw_realloc(next, 5000);
    REQUIRE(next != NULL);
    *next = rounds + 1;
    destroyed++;
    if (rounds < 3)
        pthread_setspecific(key, next);
    else
        raw_free(next);
}

static void *leave_work_to_destructors(void *context)
{
    unsigned long *block = raw_calloc(1, 100);
    REQUIRE(block != NULL);
    pthread_setspecific(key, block);
    return context;
}

static void destructors_allocate(void)
{
    REQUIRE(pthread_key_create(&key, destroy) == 0);
    for (int i = 0; i < 200; i++)
        run_threads(leave_work_to_destructors);
    REQUIRE(destroyed >= 200 * THREADS * 3);
}

/* ---- fork ------------------------------------------------------------------------------------------------- */

static _Atomic int stop;
static void *churn_on(void *context)
{
    while (!stop)
        churn(context);
    return NULL;
}

static void fork_with_threads_at_work(void)
{
    pthread_t threads[THREADS];
    void *kept[500];
    for (size_t i = 0; i < 500; i++) {
        REQUIRE((kept[i] = raw_malloc(i * 11)) != NULL);
        paint(kept[i], i * 11, i);
    }
    for (unsigned long i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, churn_on, (void *)(i + 1)) == 0);
    for (int i = 0; i < 30; i++) {
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            for (size_t j = 0; j < 500; j++) {
                REQUIRE(is_painted(kept[j], j * 11, j));
                kept[j] = raw_realloc(kept[j], j * 22);
                REQUIRE(kept[j] != NULL && is_painted(kept[j], j * 11, j));
            }
            pthread_t thread;
            void *left;
            REQUIRE(pthread_create(&thread, NULL, live_briefly, NULL) == 0 && pthread_join(thread, &left) == 0);
            raw_free(left);
            _exit(0);
        }
        int status;
        REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    }
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    clear_slots();
    for (size_t i = 0; i < 500; i++) {
        REQUIRE(is_painted(kept[i], i * 11, i));
        raw_free(kept[i]);
    }
}

/* ---- before and after ------------------------------------------------------------------------------------- */

static void *early;
__attribute__((constructor)) static void begin(void)
{
    early = raw_malloc(200);
    REQUIRE(early != NULL);
    paint(early, 200, 1);
}

__attribute__((destructor)) static void end(void)
{
    REQUIRE(is_painted(early, 200, 1));
    raw_free(early);
    void *late = raw_malloc(300);
    REQUIRE(late != NULL);
    raw_free(late);
}

static void before_and_after(void) { the_hooks_are_there(); }

static const test_case cases[] = {
    {"every_size", every_size},
    {"errno_is_left_alone", errno_is_left_alone},
    {"blocks_change_sides", blocks_change_sides},
    {"threads_free_each_others_blocks", threads_free_each_others_blocks},
    {"threads_come_and_go", threads_come_and_go},
    {"destructors_allocate", destructors_allocate},
    {"fork_with_threads_at_work", fork_with_threads_at_work},
    {"before_and_after", before_and_after},
};

int main(int argc, char **argv) { return main_of(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
