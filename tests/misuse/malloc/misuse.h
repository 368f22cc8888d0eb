/* SPDX-License-Identifier: MIT
 *
 * What the programs here share. Each tells the address that its last call is given, and that call must end the process:
 * whoever comes back from it exits with NOT_STOPPED. Blocks have 3,000 bytes as a rule, a size for which nobody else
 * asks.
 */
#ifndef MISUSE_H
#define MISUSE_H

#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { NOT_STOPPED = 99, NOT_SET_UP = 98, BLOCKS = 9, MIB = 1 << 20 };

#define REQUIRE(condition)                                                                                             \
    do                                                                                                                 \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                    \
            _exit(NOT_SET_UP);                                                                                         \
        }                                                                                                              \
    while (0)

/* The compiler must not know what it calls. */
static void (*volatile a_free)(void *) = free;
static void *(*volatile a_malloc)(size_t) = malloc;
static void *(*volatile a_realloc)(void *, size_t) = realloc;

static char *nine[BLOCKS];

/* The fifth of nine, so that its slab stays. */
static inline char *new_block(size_t bytes)
{
    for (int i = 0; i < BLOCKS; i++) {
        nine[i] = (char *)a_malloc(bytes);
        REQUIRE(nine[i] != NULL);
        memset(nine[i], 1, bytes);
    }
    return nine[4];
}

/* A function that the C library has not, or not yet. */
static inline void *function(const char *name)
{
    void *found = dlsym(RTLD_DEFAULT, name);
    REQUIRE(found != NULL);
    return found;
}

/* Tells the address, without a buffer that malloc would have to serve, and returns it. */
static inline char *wrong(void *address)
{
    char line[64];
    int length = snprintf(line, sizeof(line), "ADDRESS=%p\n", address);
    REQUIRE(write(STDOUT_FILENO, line, (size_t)length) == length);
    return (char *)address;
}

static inline void *free_it(void *block)
{
    a_free(block);
    return NULL;
}

static inline void *in_thread(void *(*work)(void *), void *context)
{
    pthread_t thread;
    void *result;
    REQUIRE(pthread_create(&thread, NULL, work, context) == 0 && pthread_join(thread, &result) == 0);
    return result;
}

#endif
