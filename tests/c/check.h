/* SPDX-License-Identifier: MIT
 *
 * Checks for the C tests: a failed one prints file, line, both values and the seed, and the test goes on, so that one
 * run shows everything that is wrong. A program runs its tests with RUN and returns check_finish(), whose last line is
 * `N passed, M failed`. Checks may be made by any thread.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* threads, anonymous memory, resource limits: included first in every test */
#endif

#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slabmalloc.h"

/* What the sanitizers and emulators make slow or impossible is told by these. */
#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

enum { CHECK_MAX_MESSAGES = 20 }; /* per test: one broken invariant can fail a million checks */

static uint64_t check_seed; /* of the running test; 0: it has none */
static atomic_uint check_failures;
static unsigned check_tests_passed, check_tests_failed;

/* True if this failure is to be printed. */
static inline bool check_fail(const char *file, int line)
{
    unsigned number = atomic_fetch_add(&check_failures, 1);
    if (number < CHECK_MAX_MESSAGES)
        printf("%s:%d: seed %" PRIu64 ": ", file, line, check_seed);
    else if (number == CHECK_MAX_MESSAGES)
        puts("... and more");
    return number < CHECK_MAX_MESSAGES;
}

static inline bool check_true(bool holds, const char *file, int line, const char *text)
{
    if (!holds && check_fail(file, line))
        printf("not true: %s\n", text);
    return holds;
}

static inline bool check_equal(uint64_t actual, uint64_t expected, const char *file, int line, const char *text)
{
    if (actual != expected && check_fail(file, line))
        printf("%s is %" PRIu64 " (0x%" PRIx64 "), not %" PRIu64 " (0x%" PRIx64 ")\n", text, actual, actual, expected,
               expected);
    return actual == expected;
}

static inline bool check_pointer(const void *actual, const void *expected, const char *file, int line, const char *text)
{
    if (actual != expected && check_fail(file, line))
        printf("%s is %p, not %p\n", text, actual, expected);
    return actual == expected;
}

static inline const char *check_status_name(slabmalloc_status status)
{
    static const char *const names[] = {"OK",
                                        "OUT_OF_MEMORY",
                                        "INVALID_LAYOUT",
                                        "FREE_FOREIGN",
                                        "FREE_WRONG_CLASS",
                                        "FREE_INTERIOR",
                                        "FREE_DOUBLE",
                                        "PAGE_MISALIGNED",
                                        "PAGE_SIZE",
                                        "PAGE_IN_USE",
                                        "PAGE_UNREADABLE",
                                        "PAGE_CLASS",
                                        "FREE_OVERFLOWN"};
    return (size_t)status < sizeof names / sizeof *names ? names[status] : "no status";
}

static inline bool check_status(slabmalloc_status actual, slabmalloc_status expected, const char *file, int line,
                                const char *text)
{
    if (actual != expected && check_fail(file, line))
        printf("%s is %s, not %s\n", text, check_status_name(actual), check_status_name(expected));
    return actual == expected;
}

static inline bool check_sound(slabmalloc_zone *zone, const char *file, int line)
{
    const char *message = slabmalloc_zone_audit(zone);
    if (message != NULL && check_fail(file, line))
        printf("audit: %s\n", message);
    return message == NULL;
}

/* Each is an expression: true if it holds. */
#define CHECK(condition) check_true((condition), __FILE__, __LINE__, #condition)
#define CHECK_EQUAL(actual, expected) check_equal((uint64_t)(actual), (uint64_t)(expected), __FILE__, __LINE__, #actual)
#define CHECK_POINTER(actual, expected) check_pointer((actual), (expected), __FILE__, __LINE__, #actual)
#define CHECK_STATUS(actual, expected) check_status((actual), SLABMALLOC_##expected, __FILE__, __LINE__, #actual)
#define CHECK_OK(actual) check_status((actual), SLABMALLOC_OK, __FILE__, __LINE__, #actual)
#define CHECK_SOUND(zone) check_sound((zone), __FILE__, __LINE__)

/* For what the rest of a test, not the tested code, can't do without. */
#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            printf("%s:%d: required: %s\n", __FILE__, __LINE__, #condition);                                           \
            fflush(stdout);                                                                                            \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static inline void check_run(const char *name, void (*test)(void))
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* what was seen before a crash is shown */
    atomic_store(&check_failures, 0);
    check_seed = 0;
    test();
    if (atomic_load(&check_failures) == 0) {
        check_tests_passed++;
    } else {
        printf("FAILED %s (seed %" PRIu64 ")\n", name, check_seed);
        check_tests_failed++;
    }
    fflush(stdout);
}
#define RUN(test) check_run(#test, test)

static inline int check_finish(void)
{
    printf("%u passed, %u failed\n", check_tests_passed, check_tests_failed);
    return check_tests_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- pseudo-random numbers: always the same for the same seed ---- */

typedef struct random_source {
    uint64_t state;
} random_source;

static inline random_source random_from(uint64_t seed)
{
    return (random_source){seed * UINT64_C(0x9E3779B97F4A7C15) + 1};
}

/* splitmix64 */
static inline uint64_t random_word(random_source *source)
{
    uint64_t z = (source->state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* 0 ... bound - 1 */
static inline size_t random_below(random_source *source, size_t bound) { return (size_t)(random_word(source) % bound); }

/* A number from the environment, for longer or shorter runs. */
static inline size_t setting(const char *name, size_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL && *text != '\0' ? (size_t)strtoull(text, NULL, 0) : otherwise;
}

#endif
