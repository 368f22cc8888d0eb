/* SPDX-License-Identifier: MIT
 *
 * What a hardened malloc finds, one case each: the process must end there. Whoever comes back to main exits with 99.
 */
#define _GNU_SOURCE
#include "check.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>

/* The compiler must not know what it calls. */
static void (*volatile a_free)(void *) = free;
static void *(*volatile a_malloc)(size_t) = malloc;
static void *(*volatile a_calloc)(size_t, size_t) = calloc;
static void *(*volatile a_realloc)(void *, size_t) = realloc;
static size_t (*volatile a_usable)(void *) = malloc_usable_size;

static char *new(size_t bytes)
{
    char *block = a_malloc(bytes);
    REQUIRE(block != NULL);
    memset(block, 'x', bytes);
    return block;
}

/* Until everything in quarantine has been served again. */
static void go_on(size_t bytes)
{
    for (int i = 0; i < 20000; i++)
        a_free(new(bytes));
}

/* Of 3000 bytes: a class of 3072, with a slack of 64. */
static void overflow_by_one(void)
{
    char *block = new(3000);
    block[3000] = '\0';
    a_free(block);
}

static void overflow_by_a_few(void)
{
    char *block = new(3000);
    block[3004] ^= 1;
    a_free(block);
}

/* Of 24 bytes: a class of 32, with no slack. */
static void overflow_by_the_end_of_a_string(void)
{
    char *block = new(24);
    strcpy(block, "twenty-three and the end"); /* 24 and the end */
    a_free(block);
}

static void overflow_across(void)
{
    char *block = new(3000);
    memset(block, 'y', 3100);
    a_free(block);
}

static void overflow_before_realloc(void)
{
    char *block = new(3000);
    block[3000] ^= 1;
    block = a_realloc(block, 5000);
}

static void overflow_before_realloc_in_place(void)
{
    char *block = new(3000);
    block[3000] ^= 1;
    block = a_realloc(block, 3010);
}

static void overflow_of_calloc(void)
{
    char *block = a_calloc(100, 30);
    REQUIRE(block != NULL);
    block[3000] = '\0';
    a_free(block);
}

static void overflow_of_a_large_block(void)
{
    char *block = new(1000000);
    block[1000000] ^= 1;
    a_free(block);
}

static void underflow(void)
{
    new(100); /* it lies behind a guard */
    char *block = new(100);
    block[-1] ^= 1;
    a_free(block);
}

static void underflow_of_the_next_block(void)
{
    for (int i = 0; i < 1000; i++) { /* whatever lies before them: a block, or one to be */
        char *block = new(24);
        block[-1] ^= 1;
    }
    go_on(24);
}

static void *free_it(void *block)
{
    a_free(block);
    return NULL;
}

static void overflow_found_by_another_thread(void)
{
    pthread_t thread;
    char *block = new(3000);
    block[3000] ^= 1;
    REQUIRE(pthread_create(&thread, NULL, free_it, block) == 0);
    pthread_join(thread, NULL);
}

static void write_after_free(void)
{
    char *block = new(100);
    a_free(block);
    block[5] = 1;
    go_on(100);
}

static void write_after_free_behind_its_bytes(void)
{
    char *block = new(100);
    a_free(block);
    block[a_usable(new(100)) + 11] ^= 1; /* its seal */
    go_on(100);
}

static void free_twice_later(void)
{
    char *block = new(3000);
    a_free(block);
    go_on(3000);
    a_free(block);
}

static void free_large_twice(void)
{
    char *block = new(1000000);
    a_free(block);
    a_free(new(1000000));
    a_free(block);
}

static void read_large_after_free(void)
{
    char *block = new(1000000);
    a_free(block);
    REQUIRE(*(volatile char *)block == 0);
}

static void write_behind_a_large_block(void)
{
    char *block = new((1 << 20) - 8);
    ((volatile char *)block)[1 << 20] = 1;
}

static void read_nothing(void) { REQUIRE(*(volatile char *)a_malloc(0) == 0); }

static void free_nothing_twice(void)
{
    char *block = a_malloc(0);
    REQUIRE(block != NULL && a_usable(block) == 0);
    a_free(block);
    a_free(block);
}

static const test_case cases[] = {
    {"overflow_by_one", overflow_by_one},
    {"overflow_by_a_few", overflow_by_a_few},
    {"overflow_by_the_end_of_a_string", overflow_by_the_end_of_a_string},
    {"overflow_across", overflow_across},
    {"overflow_before_realloc", overflow_before_realloc},
    {"overflow_before_realloc_in_place", overflow_before_realloc_in_place},
    {"overflow_of_calloc", overflow_of_calloc},
    {"overflow_of_a_large_block", overflow_of_a_large_block},
    {"underflow", underflow},
    {"underflow_of_the_next_block", underflow_of_the_next_block},
    {"overflow_found_by_another_thread", overflow_found_by_another_thread},
    {"write_after_free", write_after_free},
    {"write_after_free_behind_its_bytes", write_after_free_behind_its_bytes},
    {"free_twice_later", free_twice_later},
    {"free_large_twice", free_large_twice},
    {"read_large_after_free", read_large_after_free},
    {"write_behind_a_large_block", write_behind_a_large_block},
    {"read_nothing", read_nothing},
    {"free_nothing_twice", free_nothing_twice},
};

int main(int argc, char **argv)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    int status = main_of(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
    return status == 0 ? 99 : status;
}
