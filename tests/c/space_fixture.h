/* SPDX-License-Identifier: MIT
 *
 * What the tests of several heaps in one space share: spaces with small reserves, contents that tell whose they are,
 * threads, and time.
 */
#ifndef SPACE_FIXTURE_H
#define SPACE_FIXTURE_H

#include "heap_fixture.h"
#include "huge_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#define KIB ((size_t)1024)

/* One range of `reserve_bytes`, or several. */
static inline space *space_new(size_t reserve_bytes, uint32_t max_ranges, uint32_t decay_ms)
{
    space_options options = space_options_default();
    options.reserve_bytes = reserve_bytes;
    options.max_ranges = max_ranges;
    options.decay_ms = decay_ms;
    space *s = space_create(&options);
    REQUIRE(s != NULL);
    return s;
}

static inline heap *heap_of(space *s)
{
    heap *h = heap_open(s, NULL);
    REQUIRE(h != NULL);
    return h;
}

/* ---- contents: words that depend on a tag and their place, on each OS page of the object ---- */

static inline size_t stamp_next(size_t offset) { return offset + (offset < 512 ? 8 : 504); }

static inline void stamp(void *object, size_t bytes, uint64_t tag)
{
    unsigned char *at = object;
    for (size_t offset = 0; offset < bytes; offset = stamp_next(offset)) {
        uint64_t value = (tag + offset) * UINT64_C(0x9E3779B97F4A7C15);
        memcpy(at + offset, &value, bytes - offset < 8 ? bytes - offset : 8);
    }
}

/* Are the first `bytes` as they were stamped? */
static inline bool is_stamped(const void *object, size_t bytes, uint64_t tag)
{
    const unsigned char *at = object;
    for (size_t offset = 0; offset < bytes; offset = stamp_next(offset)) {
        uint64_t value = (tag + offset) * UINT64_C(0x9E3779B97F4A7C15);
        if (memcmp(at + offset, &value, bytes - offset < 8 ? bytes - offset : 8) != 0)
            return false;
    }
    return true;
}

static inline bool all_zero(const void *object, size_t bytes)
{
    const unsigned char *at = object;
    return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

/* A size of any kind: mostly small, medium now and then, seldom large up to `most`. */
static inline size_t any_size(random_source *source, size_t most)
{
    size_t kind = random_below(source, 100);
    if (kind < 80)
        return random_below(source, kind < 60 ? 400 : HEAP_SMALL_BYTES + 1);
    if (kind < 95)
        return HEAP_SMALL_BYTES + 1 + random_below(source, HEAP_MEDIUM_BYTES - HEAP_SMALL_BYTES);
    return HEAP_MEDIUM_BYTES + 1 + random_below(source, most - HEAP_MEDIUM_BYTES);
}

static inline void check_audit(heap *h)
{
    const char *message = heap_audit(h);
    if (!CHECK(message == NULL))
        puts(message);
}

/* ---- threads and time ---- */

static inline pthread_t start(void *(*run)(void *), void *context)
{
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, run, context) == 0);
    return thread;
}

static inline size_t amount(size_t full)
{
    return full * setting("SLABMALLOC_THREADS_PERCENT", UNDER_TSAN ? 12 : UNDER_ASAN ? 30 : 100) / 100 + 1;
}

static inline uint64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline void sleep_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* Physical memory of a range, by the kernel's account. */
static inline size_t resident_of(const void *begin, size_t bytes)
{
    size_t os_page = (size_t)sysconf(_SC_PAGESIZE), pages = (bytes + os_page - 1) / os_page, count = 0;
    unsigned char *vector = malloc(pages);
    REQUIRE(vector != NULL && mincore((void *)(uintptr_t)begin, bytes, vector) == 0);
    for (size_t i = 0; i < pages; i++)
        count += vector[i] & 1;
    free(vector);
    return count * os_page;
}

/* Objects that are touched: the i-th is full of i % 250 + 1. */
static inline char **objects_new(heap *h, size_t count, size_t bytes)
{
    char **objects = calloc(count, sizeof *objects);
    REQUIRE(objects != NULL);
    for (size_t i = 0; i < count; i++) {
        REQUIRE((objects[i] = heap_allocate(h, bytes)) != NULL);
        memset(objects[i], (int)(i % 250 + 1), bytes);
    }
    return objects;
}

#endif
