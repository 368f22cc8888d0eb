/* SPDX-License-Identifier: MIT
 *
 * What malloc and its kin do when the system refuses a request, with faults.c preloaded beside the library: each
 * request of a piece of work in turn, in a fork of its own. A call that gets nothing says ENOMEM and changes nothing;
 * no block is lost and none leaks, every invariant holds, and the same work is done as soon as there is memory.
 */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "process.h"

enum { MMAP = 1, MREMAP = 2, MPROTECT = 4, MUNMAP = 8, MADVISE = 16, MEMORY = MMAP | MREMAP | MPROTECT };

static void (*arm)(unsigned kinds, unsigned long first, unsigned long last, int error);
static unsigned long (*disarm)(void);
static const slabmalloc_process *process;

/* Before anything is allocated. */
static void find_functions(void)
{
    void *arm_symbol = dlsym(RTLD_DEFAULT, "faults_arm"), *disarm_symbol = dlsym(RTLD_DEFAULT, "faults_disarm");
    process = dlsym(RTLD_DEFAULT, SLABMALLOC_PROCESS_SYMBOL);
    REQUIRE(arm_symbol != NULL && disarm_symbol != NULL && process != NULL);
    REQUIRE(process->table_bytes == sizeof(slabmalloc_process));
    memcpy(&arm, &arm_symbol, sizeof(arm));
    memcpy(&disarm, &disarm_symbol, sizeof(disarm));
}

/* ---- what must not change ---------------------------------------------------------------------------------- */

typedef struct level {
    uint64_t blocks;
    size_t bytes, large_blocks, mapped_bytes;
} level;

static level level_now(void)
{
    pymem_counters counters;
    REQUIRE(process->count(DOMAIN_MALLOC, &counters));
    struct mallinfo2 info = mallinfo2();
    return (level){
        counters.served_blocks - counters.freed_blocks,
        info.uordblks + info.hblkhd,
        info.hblks,
        info.arena + info.hblkhd,
    };
}

static level level_when_trimmed(void)
{
    malloc_trim(0);
    return level_now();
}

static void require_level(level wanted)
{
    level now = level_now();
    REQUIRE(now.blocks == wanted.blocks);
    REQUIRE(now.bytes == wanted.bytes);
    REQUIRE(now.large_blocks == wanted.large_blocks);
    REQUIRE(process->audit() == NULL);
}

/* No page is lost either. */
static void require_level_when_trimmed(level wanted)
{
    malloc_trim(0);
    require_level(wanted);
    REQUIRE(level_now().mapped_bytes == wanted.mapped_bytes);
}

/* ---- a piece of work ----------------------------------------------------------------------------------------- */

enum { BLOCKS = 300, STEPS = 1600 };

typedef struct block {
    void *at;
    size_t bytes;
    unsigned long seed;
} block;

static block blocks[BLOCKS];
static size_t refused_count;

/* Small ones of all classes, medium ones, and large ones that grow and shrink by mremap. */
static size_t any_size(unsigned long *random)
{
    static const size_t bounds[] = {100, 1000, 3000, 8000, 60000, 400000};
    size_t bound = bounds[next_random(random) % (sizeof(bounds) / sizeof(bounds[0]))];
    return 1 + next_random(random) % bound;
}

static bool is_had(const void *block)
{
    refused_count += block == NULL;
    return block != NULL || errno == ENOMEM;
}

static void make(block *b, size_t bytes, unsigned long what)
{
    void *at = NULL;
    errno = 0;
    if (what == 0) {
        REQUIRE(is_had(at = calloc(1, bytes)));
        REQUIRE(at == NULL || is_zero(at, bytes));
    } else if (what == 1) {
        size_t align = (size_t)16 << bytes % 12;
        int error = posix_memalign(&at, align, bytes);
        REQUIRE(errno == 0 && error == (at == NULL ? ENOMEM : 0));
        REQUIRE((uintptr_t)at % align == 0);
        refused_count += at == NULL;
    } else if (what == 2) {
        REQUIRE(is_had(at = aligned_alloc(64, bytes)));
    } else {
        REQUIRE(is_had(at = malloc(bytes)));
    }
    if (at == NULL)
        return;
    paint(at, bytes, b->seed);
    *b = (block){at, bytes, b->seed};
}

/* To less or to more; what was there before is there in any case. */
static void resize(block *b, size_t bytes)
{
    errno = 0;
    void *at = realloc(b->at, bytes);
    REQUIRE(is_had(at));
    size_t kept = at == NULL || b->bytes < bytes ? b->bytes : bytes;
    REQUIRE(is_painted(at == NULL ? b->at : at, kept, b->seed));
    if (at == NULL) {
        REQUIRE(bytes > b->bytes); /* to shrink never fails */
        return;
    }
    paint(at, bytes, b->seed);
    *b = (block){at, bytes, b->seed};
}

static void end(block *b)
{
    REQUIRE(is_painted(b->at, b->bytes, b->seed));
    free(b->at);
    b->at = NULL;
}

static void work(void)
{
    unsigned long random = 12345;
    refused_count = 0;
    for (int step = 0; step < STEPS; step++) {
        block *b = &blocks[next_random(&random) % BLOCKS];
        unsigned long what = next_random(&random) % 8, bytes = any_size(&random);
        b->seed = b->at == NULL ? random : b->seed;
        if (b->at == NULL)
            make(b, bytes, what);
        else if (what < 4)
            resize(b, bytes);
        else
            end(b);
    }
}

static void end_all(void)
{
    for (int i = 0; i < BLOCKS; i++)
        if (blocks[i].at != NULL)
            end(&blocks[i]);
}

/* ---- each request in turn ------------------------------------------------------------------------------------- */

/* Runs `act` in a fork; there a REQUIRE that fails ends it. */
static void in_a_fork(void (*act)(unsigned long first, unsigned long last), unsigned long first, unsigned long last)
{
    fflush(NULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        alarm(60);
        act(first, last);
        _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    if (status != 0)
        fprintf(stderr, "requests %lu to %lu refused: status 0x%x\n", first, last, (unsigned)status);
    REQUIRE(status == 0);
}

static unsigned long requests_of(void (*act)(void))
{
    int pipe_ends[2];
    unsigned long count = 0;
    REQUIRE(pipe(pipe_ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        arm(MEMORY, ULONG_MAX, ULONG_MAX, ENOMEM);
        act();
        count = disarm();
        _exit(write(pipe_ends[1], &count, sizeof(count)) != sizeof(count));
    }
    int status = 0;
    REQUIRE(child >= 0 && waitpid(child, &status, 0) == child && status == 0);
    REQUIRE(read(pipe_ends[0], &count, sizeof(count)) == sizeof(count));
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    return count;
}

static void work_with_refusals(unsigned long first, unsigned long last)
{
    level before = level_when_trimmed();
    arm(MEMORY, first, last, last == ULONG_MAX ? EAGAIN : ENOMEM); /* whatever the system says, malloc says ENOMEM */
    work();
    disarm();
    REQUIRE(last == ULONG_MAX ? refused_count > 0 : true);
    REQUIRE(process->audit() == NULL);
    end_all();
    require_level_when_trimmed(before);
    work();
    REQUIRE(refused_count == 0);
    end_all();
    require_level_when_trimmed(before);
}

/* A block comes and goes; the compiler must not see that it is for nothing. */
static void pass_by(size_t bytes)
{
    void *volatile block = malloc(bytes);
    REQUIRE(block != NULL);
    free(block);
}

/* So that a fork begins with a heap, and books of its own are still to be had. */
static void begin(void) { pass_by(1); }

static void one_request_is_refused(void)
{
    begin();
    unsigned long count = requests_of(work);
    REQUIRE(count > 80);
    for (unsigned long number = 1; number <= count; number++)
        in_a_fork(work_with_refusals, number, number);
}

static void all_from_one_on_are_refused(void)
{
    begin();
    unsigned long count = requests_of(work);
    for (unsigned long number = 1; number <= count; number += number < 60 ? 1 : 5)
        in_a_fork(work_with_refusals, number, ULONG_MAX);
}

/* ---- one kind alone --------------------------------------------------------------------------------------------- */

/* Where memory is promised by strict rules addresses are granted, and to use them is refused: that must not take all
 * the addresses that there are. */
static void addresses_are_granted_and_no_memory(void)
{
    begin();
    level before = level_when_trimmed();
    size_t addresses = held_bytes(0);
    arm(MPROTECT, 1, ULONG_MAX, ENOMEM);
    void *had[1000];
    size_t count = 0;
    for (size_t i = 0; i < 1000; i++)
        if ((had[count] = malloc(HEAP_MEDIUM_BYTES)) != NULL)
            count++;
    REQUIRE(count < 500);
    work();
    disarm();
    REQUIRE(refused_count > 100);
    end_all();
    while (count > 0)
        free(had[--count]);
    require_level_when_trimmed(before);
    REQUIRE(held_bytes(0) - addresses < (size_t)1 << 30);
    work();
    REQUIRE(refused_count == 0);
    end_all();
    require_level_when_trimmed(before);
}

/* What rests goes back when the system refuses more, and then it is asked once again; by whom doesn't matter. */
static void what_rests_is_given_for_what_is_refused(void)
{
    enum { LARGE = 5 << 20 };
    void *grows = malloc(LARGE);
    REQUIRE(grows != NULL);
    pass_by(20 * LARGE);
    size_t resting = mallinfo2().keepcost;
    REQUIRE(resting >= 20 * LARGE);
    arm(MREMAP, 1, 1, ENOMEM);
    grows = realloc(grows, 2 * LARGE);
    REQUIRE(disarm() == 2 && grows != NULL);
    REQUIRE(mallinfo2().keepcost < resting);
    pass_by(20 * LARGE);
    arm(MMAP, 1, 1, ENOMEM);
    void *volatile fresh = malloc(60 * (size_t)LARGE); /* neither a part of what rests nor grown from it */
    REQUIRE(disarm() == 2 && fresh != NULL);
    free(fresh);
    free(grows);
}

/* Neither to cut memory off nor to empty it is granted: it stays, and is what it was to the next. */
static void nothing_goes_back(void)
{
    enum { COUNT = 40 };
    begin();
    level before = level_now();
    static const size_t sizes[] = {100, 5000, 50000, 200000, 5 << 20};
    static const unsigned kinds[] = {MUNMAP, MADVISE, MUNMAP | MADVISE};
    for (size_t which = 0; which < 3; which++) {
        arm(kinds[which], 1, ULONG_MAX, ENOMEM);
        for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++)
            for (int round = 0; round < 3; round++) {
                unsigned char *some[COUNT];
                size_t count = sizes[k] > 1 << 20 ? 4 : COUNT;
                for (size_t i = 0; i < count; i++) {
                    REQUIRE((some[i] = calloc(1, sizes[k])) != NULL && is_zero(some[i], sizes[k]));
                    memset(some[i], 0xA5, sizes[k]);
                }
                for (size_t i = 0; i < count; i++) {
                    REQUIRE((some[i] = realloc(some[i], sizes[k] / 3)) != NULL);
                    REQUIRE(some[i][0] == 0xA5 && some[i][sizes[k] / 3 - 1] == 0xA5);
                    errno = 77;
                    free(some[i]);
                    REQUIRE(errno == 77);
                }
                int has_gone = malloc_trim(0);
                REQUIRE(errno == 77);
                REQUIRE(!has_gone || kinds[which] != (MUNMAP | MADVISE));
                require_level(before);
            }
        disarm();
        pass_by(5 << 20);
        REQUIRE(malloc_trim(0) == 1);
        malloc_trim(0);
        require_level(before);
    }
}

/* ---- threads, fork, the first of all --------------------------------------------------------------------------- */

static void *use(void *context)
{
    for (size_t bytes = 10; bytes < 1000000; bytes *= 7) {
        errno = 0;
        void *some = malloc(bytes);
        REQUIRE(some != NULL || errno == ENOMEM);
        free(some);
    }
    return context;
}

static void threads(void)
{
    pthread_t all[4];
    bool has_started[4];
    for (int i = 0; i < 4; i++)
        has_started[i] = pthread_create(&all[i], NULL, use, NULL) == 0;
    for (int i = 0; i < 4; i++)
        REQUIRE(!has_started[i] || pthread_join(all[i], NULL) == 0);
}

static void threads_with_refusals(unsigned long first, unsigned long last)
{
    threads(); /* the C library keeps something of the first */
    level before = level_when_trimmed();
    arm(MEMORY, first, last, ENOMEM);
    threads();
    disarm();
    threads();
    require_level_when_trimmed(before);
}

static void threads_start_without_memory(void)
{
    begin();
    unsigned long count = requests_of(threads);
    REQUIRE(count >= 1); /* a heap, if each thread found that of the one before */
    for (unsigned long number = 1; number <= count; number++) {
        in_a_fork(threads_with_refusals, number, number);
        in_a_fork(threads_with_refusals, number, ULONG_MAX);
    }
}

/* To shrink never fails: not in a thread either that has no heap, and gets none. What is left in too large a slot has
 * the size that was asked for last, and what has no bytes stays what it is. */
static pthread_barrier_t turn;
static void *of_some_bytes, *of_no_bytes;

static void *shrink(void *context)
{
    block *b = context;
    pthread_barrier_wait(&turn); /* it is there, before anything is refused */
    pthread_barrier_wait(&turn);
    resize(b, b->bytes / 2);
    resize(b, b->bytes / 100);
    REQUIRE(realloc(b->at, 1 << 20) == NULL && errno == ENOMEM);
    REQUIRE(realloc(of_no_bytes, 10) == NULL && errno == ENOMEM);
    free(of_no_bytes);
    of_some_bytes = realloc(of_some_bytes, 10);
    REQUIRE(of_some_bytes != NULL);
    void *symbol = dlsym(RTLD_DEFAULT, "free_sized"); /* C23, which the C library may not have */
    void (*sized)(void *block, size_t bytes);
    memcpy(&sized, &symbol, sizeof(sized));
    sized(of_some_bytes, 10);
    return NULL;
}

static void a_thread_without_a_heap_shrinks(void)
{
    block b = {malloc(100000), 100000, 1};
    pthread_t thread;
    of_some_bytes = malloc(1000);
    of_no_bytes = malloc(0);
    REQUIRE(b.at != NULL && of_some_bytes != NULL && of_no_bytes != NULL && pthread_barrier_init(&turn, NULL, 2) == 0);
    paint(b.at, b.bytes, b.seed);
    REQUIRE(pthread_create(&thread, NULL, shrink, &b) == 0);
    pthread_barrier_wait(&turn);
    malloc_trim(0);
    arm(MEMORY, 1, ULONG_MAX, ENOMEM);
    pthread_barrier_wait(&turn);
    REQUIRE(pthread_join(thread, NULL) == 0);
    disarm();
    end(&b);
    REQUIRE(process->audit() == NULL);
}

/* A child that is made while nothing is granted has its blocks, and goes on when there is memory. */
static void children_are_made_without_memory(void)
{
    begin();
    level before = level_when_trimmed();
    work();
    arm(MEMORY, 1, ULONG_MAX, ENOMEM);
    REQUIRE(malloc(1 << 30) == NULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        alarm(60);
        REQUIRE(malloc(1 << 30) == NULL && errno == ENOMEM);
        end_all();
        disarm();
        work();
        REQUIRE(process->audit() == NULL);
        end_all();
        require_level_when_trimmed(before);
        _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    disarm();
    end_all();
    require_level_when_trimmed(before);
}

/* With FAULTS in the environment: the heap itself is refused, and is made when it can be. */
static void the_first_of_all_is_refused(void)
{
    for (size_t bytes = 1; bytes < 10000000; bytes *= 10) {
        errno = 0;
        REQUIRE(malloc(bytes) == NULL && errno == ENOMEM);
        errno = 0;
        REQUIRE(calloc(1, bytes) == NULL && errno == ENOMEM);
        errno = 0;
        REQUIRE(realloc(NULL, bytes) == NULL && errno == ENOMEM);
        void *block;
        REQUIRE(posix_memalign(&block, 64, bytes) == ENOMEM);
    }
    free(NULL);
    threads();
    disarm();
    work();
    REQUIRE(refused_count == 0 && process->audit() == NULL);
    end_all();
}

static const test_case cases[] = {
    {"one_request_is_refused", one_request_is_refused},
    {"all_from_one_on_are_refused", all_from_one_on_are_refused},
    {"addresses_are_granted_and_no_memory", addresses_are_granted_and_no_memory},
    {"what_rests_is_given_for_what_is_refused", what_rests_is_given_for_what_is_refused},
    {"nothing_goes_back", nothing_goes_back},
    {"threads_start_without_memory", threads_start_without_memory},
    {"a_thread_without_a_heap_shrinks", a_thread_without_a_heap_shrinks},
    {"children_are_made_without_memory", children_are_made_without_memory},
    {"the_first_of_all_is_refused", the_first_of_all_is_refused},
};

int main(int argc, char **argv)
{
    find_functions();
    return main_of(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
