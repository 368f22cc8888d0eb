/* SPDX-License-Identifier: MIT
 *
 * Blocks of malloc that tell what must be in them, made, resized and freed in any of the ways that there are.
 */
#ifndef STRESS_BLOCKS_H
#define STRESS_BLOCKS_H

#include "../preload/check.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct block {
    size_t bytes; /* of content */
    unsigned long tag;
    unsigned char content[];
} block;

/* A word in each eight of the first bytes, and some on each OS page. */
static inline size_t stamp_next(size_t at) { return at + (at < 256 ? 8 : 1016); }

static inline uint64_t stamp_at(unsigned long tag, size_t at) { return (tag + at) * UINT64_C(0x9E3779B97F4A7C15); }

static inline void stamp(block *b, size_t bytes, unsigned long tag)
{
    b->bytes = bytes;
    b->tag = tag;
    for (size_t at = 0; at + 8 <= bytes; at = stamp_next(at)) {
        uint64_t value = stamp_at(tag, at);
        memcpy(b->content + at, &value, 8);
    }
}

static inline void check(const block *b, size_t bytes)
{
    for (size_t at = 0; at + 8 <= bytes; at = stamp_next(at)) {
        uint64_t value = stamp_at(b->tag, at);
        REQUIRE(memcmp(b->content + at, &value, 8) == 0);
    }
}

static inline size_t any_size(unsigned long *random)
{
    static const size_t bounds[] = {64, 512, 512, 8192, 131072, 600000};
    unsigned long dice = next_random(random) % 100;
    size_t bound = bounds[(dice >= 30) + (dice >= 60) + (dice >= 75) + (dice >= 94) + (dice >= 99)];
    return next_random(random) % bound;
}

static inline block *block_new(unsigned long *random)
{
    size_t bytes = any_size(random), total = sizeof(block) + bytes, align = 16;
    unsigned long dice = next_random(random);
    block *b = NULL;
    if (dice % 8 == 0) {
        b = calloc(1, total);
        REQUIRE(b == NULL || is_zero(b, total));
    } else if (dice % 8 == 1) {
        align = (size_t)16 << (dice >> 8) % 9;
        REQUIRE(posix_memalign((void **)&b, align, total) == 0);
    } else {
        b = malloc(total);
    }
    REQUIRE(b != NULL && (uintptr_t)b % align == 0);
    stamp(b, bytes, dice);
    return b;
}

static inline block *block_resize(block *b, unsigned long *random)
{
    size_t kept = b->bytes, bytes = any_size(random);
    b = realloc(b, sizeof(block) + bytes);
    REQUIRE(b != NULL);
    check(b, kept < bytes ? kept : bytes);
    stamp(b, bytes, b->tag);
    return b;
}

static inline void block_delete(block *b)
{
    if (b == NULL)
        return;
    check(b, b->bytes);
    REQUIRE(malloc_usable_size(b) >= sizeof(block) + b->bytes);
    memset(b->content, 0xEE, b->bytes < 64 ? b->bytes : 64); /* two holders of the same memory would notice */
    free(b);
}

#endif
