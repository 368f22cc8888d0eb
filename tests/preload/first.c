/* SPDX-License-Identifier: MIT
 *
 * What a program does before any library of its has begun, as libraries do that it is linked with: it registers
 * handlers of fork which allocate, more than a thread has at hand; it uses up the keys of threads' own data.
 */
#include "check.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>

/* ---- handlers of fork ---- */

enum { KINDS = 3, EACH = 200 };
static int calls;

static void allocate(void)
{
    static const size_t kinds[KINDS] = {5000, 100000, 300000};
    static void *blocks[EACH];
    for (int kind = 0; kind < KINDS; kind++) {
        for (int i = 0; i < EACH; i++) {
            REQUIRE((blocks[i] = malloc(kinds[kind])) != NULL);
            paint(blocks[i], kinds[kind], (unsigned long)i);
        }
        for (int i = 0; i < EACH; i++)
            free(blocks[i]);
    }
    calls++;
}

static void handlers_of_fork_allocate(void)
{
    alarm(60);
    for (int round = 0; round < 3; round++) {
        int before = calls;
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0)
            alarm(60);
        REQUIRE(calls == before + 2);
        if (child == 0)
            _exit(0);
        int status = 0;
        REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    }
}

/* ---- keys ---- */

enum { MOST_KEYS = 4096, THREADS = 40 };
static pthread_key_t keys[MOST_KEYS];
static int key_count;

static void *allocate_something(void *context)
{
    void *block = malloc(100);
    REQUIRE(block != NULL);
    free(block);
    return context;
}

static void no_key_is_left(void)
{
    REQUIRE(key_count > 0 && key_count < MOST_KEYS);
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, allocate_something, NULL) == 0);
        REQUIRE(pthread_join(thread, NULL) == 0);
    }
    for (int i = 0; i < key_count; i++)
        REQUIRE(pthread_getspecific(keys[i]) == NULL); /* nobody else's */
    REQUIRE(mallinfo2().ordblks < THREADS / 2);        /* heaps: the next thread finds the one before's */
}

/* ---- before all others ---- */

static void begin(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "handlers_of_fork_allocate") == 0)
        pthread_atfork(allocate, allocate, allocate);
    else
        while (key_count < MOST_KEYS && pthread_key_create(&keys[key_count], NULL) == 0)
            key_count++;
}

__attribute__((section(".preinit_array"), used)) static void (*const first)(int argc, char **argv) = begin;

static const test_case cases[] = {
    {"handlers_of_fork_allocate", handlers_of_fork_allocate},
    {"no_key_is_left", no_key_is_left},
};

int main(int argc, char **argv) { return main_of(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
