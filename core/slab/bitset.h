/* SPDX-License-Identifier: MIT
 *
 * A set of bits with a summary, floor 1. Level 0 has a bit per member; each level above has a bit per word of the level
 * below, until one word is left. So the lowest member is found in as many steps as there are levels (at most five, for
 * a page of 1 GiB), and nothing is ever scanned.
 *
 * Invariant at rest: bit i of level k+1 is set  <=>  word i of level k is not zero. (Of a slab's local set the top is
 * elsewhere: slab.h.)
 *
 * One writer uses the plain operations; its stores are relaxed atomics, plain moves on every machine, so that others
 * may look at a bit. `bitset_share` and `bitset_take` are for many writers and one taker; argument in zone/remote.h.
 */
#ifndef SLABMALLOC_SLAB_BITSET_H
#define SLABMALLOC_SLAB_BITSET_H

#include "base/bits.h"

typedef _Atomic uint64_t word;

enum { BITSET_MAX_LEVELS = 5 };

/* Where the levels of a set of `bits` members lie: words [offset[k], offset[k+1]) are level k. */
typedef struct bitset_shape {
    uint32_t bits;
    uint32_t levels;
    uint32_t offset[BITSET_MAX_LEVELS + 1];
} bitset_shape;

bitset_shape bitset_shape_of(uint32_t bits);

ALWAYS_INLINE uint32_t bitset_words(const bitset_shape *shape) { return shape->offset[shape->levels]; }

ALWAYS_INLINE uint64_t word_get(const word *w) { return atomic_load_explicit(w, memory_order_relaxed); }
ALWAYS_INLINE void word_set(word *w, uint64_t value) { atomic_store_explicit(w, value, memory_order_relaxed); }

ALWAYS_INLINE bool bitset_has(const word *words, size_t index)
{
    return (word_get(&words[index / WORD_BITS]) & word_bit(index)) != 0;
}

void bitset_clear(const bitset_shape *shape, word *words);
void bitset_fill(const bitset_shape *shape, word *words);
uint32_t bitset_count(const bitset_shape *shape, const word *words);
/* Is every member there? Most often the first word says no. */
bool bitset_is_full(const bitset_shape *shape, const word *words);
/* Makes the summary what level 0 says. */
void bitset_summarize(const bitset_shape *shape, word *words);
/* Level 0 has no bit beyond the last member. */
bool bitset_has_no_excess(const bitset_shape *shape, const word *words);
/* Levels 1 ... top are what the invariant says. */
bool bitset_is_summarized(const bitset_shape *shape, const word *words, uint32_t top);

/* Level-0 word `index` has just become non-zero / zero: tell the summary. */
void bitset_raise(const bitset_shape *shape, word *words, size_t index);
void bitset_lower(const bitset_shape *shape, word *words, size_t index);

/* The first level-0 word that is not zero, or SIZE_MAX: one step a level. */
ALWAYS_INLINE size_t bitset_first_word(const bitset_shape *shape, const word *words)
{
    if (word_get(&words[shape->offset[shape->levels - 1]]) == 0)
        return SIZE_MAX;
    size_t index = 0;
    for (uint32_t level = shape->levels - 1; level > 0; level--)
        index = index * WORD_BITS + word_lowest(word_get(&words[shape->offset[level] + index]));
    return index;
}

/* [any thread] Adds a member, and says what it found: the member itself, others on the way to the top, or an empty set.
 */
typedef enum bitset_shared { BITSET_MEMBER, BITSET_JOINED, BITSET_BEGAN } bitset_shared;
/* The rest of it where the member is the first of its word. */
NOINLINE bitset_shared bitset_share_above(const bitset_shape *shape, word *words, size_t index);
ALWAYS_INLINE bitset_shared bitset_share(const bitset_shape *shape, word *words, size_t index)
{
    uint64_t old = atomic_fetch_or_explicit(&words[index / WORD_BITS], word_bit(index), memory_order_acq_rel);
    if (LIKELY(old != 0))
        return UNLIKELY((old & word_bit(index)) != 0) ? BITSET_MEMBER : BITSET_JOINED;
    return bitset_share_above(shape, words, index);
}
/* [one taker] Removes every member, calling `taken(context, word index, bits)` for each word; see zone/remote.h for
 * what is seen of concurrent shares. */
void bitset_take(const bitset_shape *shape, word *words, void (*taken)(void *context, size_t index, uint64_t bits),
                 void *context);

#endif
