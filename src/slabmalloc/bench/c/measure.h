/* SPDX-License-Identifier: MIT
 *
 * What all workloads share: options, the clock, random numbers, and what keeps a compiler honest. A measurement is a
 * warm-up, then `slices` runs of `slice_ms` or a little more; nanoseconds per object, one number per slice, printed as
 * a JSON array.
 */
#ifndef BENCHMARKS_MEASURE_H
#define BENCHMARKS_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int option_count;
static char **option_words;

/* Value of `key` among the command's key=value words, or `otherwise`. */
static long option(const char *key, long otherwise)
{
    size_t length = strlen(key);
    for (int i = 0; i < option_count; i++)
        if (strncmp(option_words[i], key, length) == 0 && option_words[i][length] == '=')
            return strtol(option_words[i] + length + 1, NULL, 10);
    return otherwise;
}

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "benchmark: %s\n", what);
    exit(1);
}

/* By default this thread's processor time: what other processes do to us is mostly left out of it. */
static clockid_t used_clock = CLOCK_THREAD_CPUTIME_ID;

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(used_clock, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The compiler must take it that `object` is used, and that all memory may have changed. */
static inline void escape(void *object) { __asm__ volatile("" : : "r"(object) : "memory"); }

static inline void touch(void *object) { *(volatile unsigned char *)object = 1; }

static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline uint32_t random_below(uint64_t *state, uint32_t bound)
{
    return (uint32_t)(((random_next(state) >> 32) * bound) >> 32);
}

/* Calls `workload` for `chunk` objects at a time until `at_least_ns` and `at_least_objects` are reached; ns per
 * object. */
static double run_for(size_t (*workload)(size_t size, size_t objects), size_t size, size_t chunk, double at_least_ns,
                      size_t at_least_objects)
{
    size_t done = 0;
    double start = now_ns(), spent_ns = 0;
    while (spent_ns < at_least_ns || done < at_least_objects) {
        done += workload(size, chunk);
        spent_ns = now_ns() - start;
    }
    return spent_ns / (double)done;
}

static void measure(size_t (*workload)(size_t size, size_t objects), size_t size, size_t chunk, size_t warm_up_objects)
{
    double slice_ns = 1e6 * (double)option("slice_ms", 10);
    long slices = option("slices", 7);
    run_for(workload, size, chunk, 3 * slice_ns, warm_up_objects);
    printf(", \"ns\": [");
    for (long i = 0; i < slices; i++)
        printf("%s%.4f", i > 0 ? ", " : "", run_for(workload, size, chunk, slice_ns, 1));
    printf("]");
}

#endif
