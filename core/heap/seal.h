/* SPDX-License-Identifier: MIT
 *
 * What lies behind a block of a hardened heap, floor 3: the slack, the seal, and what they say. See hardened.h for the
 * states of an object. All of it is on the path of each malloc and free, and inline.
 */
#ifndef SLABMALLOC_HEAP_SEAL_H
#define SLABMALLOC_HEAP_SEAL_H

#include <string.h>

#include "heap/hardened.h"

/* So much of the slack is filled, from its beginning on. */
enum { FILL_BYTES = 32 };

typedef struct block {
    uintptr_t object;
    size_t bytes; /* of the object */
    slab *slab;   /* NULL: it is a large one */
} block;

ALWAYS_INLINE _Atomic uint64_t *seal_of(const block *b)
{
    return (_Atomic uint64_t *)(b->object + b->bytes - HARDENED_SEAL_BYTES);
}

ALWAYS_INLINE uint64_t fold(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    uint64_t state = a + hash_multiply(b);
    return random_next(&state) ^ hash_multiply(state ^ b);
#endif
}

/* A seal is, modulo 2^64,
 *     key(object) + slack x stride     of a live block
 *     key(object) - stride             of a freed one
 *     0                                of a clean one
 * and is read by way of the stride's inverse: (found - key) x inverse is the slack, or -1. What was overwritten, be it
 * in its lowest byte, gives any number, and is taken for a seal only if that is not above the object's bytes: once in
 * 2^64 / bytes. A seal without slack before it has a lowest byte that is not 0: so the end of a string that is one too
 * long is found; else it is found in the slack. Who can read a live and a freed seal of one address learns the stride,
 * and can write seals: against him they are no help. */
ALWAYS_INLINE uint64_t seal_key(const space *s, uintptr_t object)
{
    return fold(object ^ s->secrets.address, s->secrets.state) | 1;
}

ALWAYS_INLINE uint64_t seal_live(const space *s, uint64_t key, size_t slack)
{
    return key + (uint64_t)slack * s->secrets.stride;
}

ALWAYS_INLINE uint64_t seal_freed(const space *s, uint64_t key) { return key - s->secrets.stride; }

#define SEAL_FREED UINT64_MAX

/* The slack, SEAL_FREED, or more than any slack: it is no seal. */
ALWAYS_INLINE uint64_t seal_read(const space *s, uint64_t key, uint64_t found)
{
    return (found - key) * s->secrets.inverse;
}

/* ---- the slack's first bytes ------------------------------------------------------------------------------- */

ALWAYS_INLINE uint64_t load(const char *from, size_t bytes)
{
    uint64_t value = 0;
    memcpy(&value, from, bytes);
    return value;
}

/* Words that overlap, all bytes of `fill` being the same: this is on every path, and short. */
ALWAYS_INLINE void fill_slack(char *slack, size_t bytes, uint64_t fill)
{
    if (bytes >= 8) {
        bytes = min_size(bytes, FILL_BYTES);
        memcpy(slack, &fill, 8);
        memcpy(slack + bytes - 8, &fill, 8);
        if (bytes > 16) {
            memcpy(slack + 8, &fill, 8);
            memcpy(slack + bytes - 16, &fill, 8);
        }
    } else if (bytes >= 4) {
        memcpy(slack, &fill, 4);
        memcpy(slack + bytes - 4, &fill, 4);
    } else if (bytes > 0) {
        slack[0] = slack[bytes / 2] = slack[bytes - 1] = (char)fill;
    }
}

ALWAYS_INLINE bool is_filled(const char *slack, size_t bytes, uint64_t fill)
{
    if (bytes >= 8) {
        bytes = min_size(bytes, FILL_BYTES);
        uint64_t wrong = (load(slack, 8) ^ fill) | (load(slack + bytes - 8, 8) ^ fill);
        if (bytes > 16)
            wrong |= (load(slack + 8, 8) ^ fill) | (load(slack + bytes - 16, 8) ^ fill);
        return wrong == 0;
    }
    if (bytes >= 4)
        return ((load(slack, 4) ^ load(slack + bytes - 4, 4)) | (load(slack, 4) ^ (fill & UINT32_MAX))) == 0;
    return bytes == 0 || (slack[0] == (char)fill && slack[bytes / 2] == (char)fill && slack[bytes - 1] == (char)fill);
}

/* ---- blocks ----------------------------------------------------------------------------------------------- */

ALWAYS_INLINE void seal(const space *s, const block *b, size_t bytes)
{
    size_t slack = b->bytes - HARDENED_SEAL_BYTES - bytes;
    fill_slack((char *)b->object + bytes, slack, s->secrets.fill);
    atomic_store_explicit(seal_of(b), seal_live(s, seal_key(s, b->object), slack), memory_order_relaxed);
}

/* The bytes that were asked for; SIZE_MAX: `found` is no seal of a live block. */
ALWAYS_INLINE size_t requested_bytes(const space *s, const block *b, uint64_t key, uint64_t found)
{
    size_t room = b->bytes - HARDENED_SEAL_BYTES;
    uint64_t slack = seal_read(s, key, found);
    return LIKELY(slack <= room) ? room - (size_t)slack : SIZE_MAX;
}

/* The same, of what is there now. */
ALWAYS_INLINE size_t requested_bytes_now(const space *s, const block *b)
{
    uint64_t found = atomic_load_explicit(seal_of(b), memory_order_relaxed);
    return requested_bytes(s, b, seal_key(s, b->object), found);
}

/* Are the first bytes behind the requested ones what they were made? */
ALWAYS_INLINE bool is_whole(const space *s, const block *b, size_t bytes)
{
    return is_filled((const char *)b->object + bytes, b->bytes - HARDENED_SEAL_BYTES - bytes, s->secrets.fill);
}

/* Does what lies before a block in a slab end as an object must? Whoever wrote below the block, or beyond the one
 * before, has overwritten its seal. */
ALWAYS_INLINE bool is_whole_before(const space *s, const block *b)
{
    if ((b->object & b->slab->offset_mask) == 0)
        return true; /* what lies there is a guard */
    block before = {.object = b->object - b->bytes, .bytes = b->bytes};
    uint64_t found = atomic_load_explicit(seal_of(&before), memory_order_relaxed);
    if (found == 0)
        return true;
    uint64_t slack = seal_read(s, seal_key(s, before.object), found);
    return slack + 1 <= before.bytes - HARDENED_SEAL_BYTES + 1; /* SEAL_FREED too */
}

/* `memory` and `bytes` are multiples of 16. */
ALWAYS_INLINE bool is_zero(const void *memory, size_t bytes)
{
    typedef uint64_t pair __attribute__((vector_size(16), may_alias));
    const pair *at = memory, *end = (const pair *)((const char *)memory + bytes);
    pair found = bytes % (2 * sizeof(pair)) != 0 ? *at++ : (pair){0, 0};
    for (; at < end; at += 2)
        found |= at[0] | at[1];
    return (found[0] | found[1]) == 0;
}

/* From live to quarantined: all but the seal. */
ALWAYS_INLINE void clear(const block *b)
{
    enum { SHORT = 128 }; /* below that a call costs more */
    size_t bytes = b->bytes - HARDENED_SEAL_BYTES;
    if (bytes > SHORT) {
        memset((void *)b->object, 0, bytes);
        return;
    }
    char *at = (char *)b->object, *end = at + bytes;
    for (; at + 16 <= end; at += 16) {
        memset(at, 0, 16);
        __asm__ volatile(""); /* lest it be made a call after all */
    }
    memset(at, 0, 8); /* bytes of an object are a multiple of 16 */
}

/* What is wrong with a block that is not sealed as live. A seal of 0 may be one that was overwritten. */
static inline slabmalloc_status fault_of(const space *s, const block *b, uint64_t found)
{
    bool is_clean = found == 0 && is_zero((const void *)b->object, b->bytes);
    return is_clean || seal_read(s, seal_key(s, b->object), found) == SEAL_FREED ? SLABMALLOC_FREE_DOUBLE
                                                                                 : SLABMALLOC_FREE_OVERFLOWN;
}

#endif
