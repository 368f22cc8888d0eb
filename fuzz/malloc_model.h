/* SPDX-License-Identifier: MIT
 *
 * What fuzz_malloc.c knows of the blocks that it has, whoever serves them.
 */
#ifndef FUZZ_MALLOC_MODEL_H
#define FUZZ_MALLOC_MODEL_H

#include "input.h"

#include <malloc.h>

#include "heap/classes.h"

#define MIB ((size_t)1 << 20)
#define MOST_HELD_BYTES (48 * MIB)

enum { MAX_LIVE = 1500, FREED = 16 };

typedef struct live_block {
    char *address;
    size_t bytes, usable_bytes;
    uint64_t tag;
} live_block;

/* Invariant: the `count` live blocks do not overlap, each is stamped with its tag, and held_bytes is the sum of their
 * usable_bytes. */
typedef struct model {
    uint64_t tag; /* the last one */
    size_t count, held_bytes;
    live_block live[MAX_LIVE];
    char *freed[FREED]; /* lately */
    size_t freed_count;
} model;

/* ---- contents --------------------------------------------------------------------------------------------- */

/* Words that depend on tag and place: all of a short block, some of a long one, on each OS page if it is not very
 * long. */
NOT_TRACED static inline size_t stamp_next(size_t at, size_t bytes)
{
    size_t next = at + (at < 512 ? 8 : bytes <= HEAP_MEDIUM_BYTES ? 2040 : bytes / 512 * 8), last = (bytes - 1) / 8 * 8;
    return at < last && next > last ? last : next;
}

NOT_TRACED static inline uint64_t stamp_at(uint64_t tag, size_t at)
{
    return (tag + at) * UINT64_C(0x9E3779B97F4A7C15);
}

NOT_TRACED static inline void stamp(char *block, size_t bytes, uint64_t tag)
{
    for (size_t at = 0; at < bytes; at = stamp_next(at, bytes)) {
        uint64_t value = stamp_at(tag, at);
        memcpy(block + at, &value, bytes - at < 8 ? bytes - at : 8);
    }
}

/* The first `end` bytes of a block that was stamped when it had `bytes`. */
NOT_TRACED static inline bool is_stamped(const char *block, size_t bytes, uint64_t tag, size_t end)
{
    for (size_t at = 0; at < end; at = stamp_next(at, bytes)) {
        uint64_t value = stamp_at(tag, at);
        if (memcmp(block + at, &value, end - at < 8 ? end - at : 8) != 0)
            return false;
    }
    return true;
}

NOT_TRACED static inline bool is_zero(const char *block, size_t bytes)
{
    return bytes == 0 || (block[0] == 0 && memcmp(block, block + 1, bytes - 1) == 0);
}

static inline void check_contents(const live_block *b)
{
    CHECK(is_stamped(b->address, b->bytes, b->tag, b->bytes));
    CHECK_EQUAL(malloc_usable_size(b->address), b->usable_bytes);
}

/* ---- who holds what --------------------------------------------------------------------------------------- */

/* The live block that has the address, or NULL. */
NOT_TRACED static inline const live_block *holder_of(const model *m, const char *address)
{
    for (size_t i = 0; i < m->count; i++)
        if ((uintptr_t)address - (uintptr_t)m->live[i].address <
            m->live[i].usable_bytes + (m->live[i].usable_bytes == 0))
            return &m->live[i];
    return NULL;
}

NOT_TRACED static inline bool overlaps(const model *m, const char *block, size_t usable)
{
    bool overlaps = false;
    for (size_t i = 0; i < m->count; i++)
        overlaps |= block < m->live[i].address + m->live[i].usable_bytes && m->live[i].address < block + usable;
    return overlaps;
}

static inline void note_live(model *m, char *block, size_t bytes)
{
    size_t usable = malloc_usable_size(block);
    CHECK(usable >= bytes && (usable > 0 || bytes == 0));
    if (!CHECK(!overlaps(m, block, usable)))
        return; /* before anything is written */
    m->live[m->count++] = (live_block){block, bytes, usable, ++m->tag};
    m->held_bytes += usable;
    stamp(block, bytes, m->tag);
}

static inline void forget(model *m, size_t i)
{
    m->freed[m->freed_count++ % FREED] = m->live[i].address;
    m->held_bytes -= m->live[i].usable_bytes;
    m->live[i] = m->live[--m->count];
}

static inline bool is_full(const model *m, size_t bytes)
{
    return m->count == MAX_LIVE || (bytes < MOST_HELD_BYTES && m->held_bytes + bytes > MOST_HELD_BYTES);
}

#endif
