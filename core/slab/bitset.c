/* SPDX-License-Identifier: MIT
 *
 * A set of bits with a summary: see bitset.h for the invariant.
 */
#include "slab/bitset.h"

#include "base/check.h"

bitset_shape bitset_shape_of(uint32_t bits)
{
    bitset_shape shape = {.bits = bits, .levels = 0, .offset = {0}};
    uint32_t members = bits;
    do {
        ASSERT(shape.levels < BITSET_MAX_LEVELS);
        uint32_t words = members / WORD_BITS + (members % WORD_BITS != 0);
        shape.offset[shape.levels + 1] = shape.offset[shape.levels] + words;
        shape.levels++;
        members = words;
    } while (members > 1);
    return shape;
}

void bitset_clear(const bitset_shape *shape, word *words)
{
    for (uint32_t i = 0; i < bitset_words(shape); i++)
        word_set(&words[i], 0);
}

void bitset_fill(const bitset_shape *shape, word *words)
{
    uint32_t members = shape->bits;
    for (uint32_t level = 0; level < shape->levels; level++) {
        uint32_t count = shape->offset[level + 1] - shape->offset[level];
        for (uint32_t i = 0; i < count; i++) {
            bool is_partial = i == count - 1 && members % WORD_BITS != 0;
            word_set(&words[shape->offset[level] + i], is_partial ? word_bit(members) - 1 : UINT64_MAX);
        }
        members = count;
    }
}

/* What level 0 has in its last word when every member is there. */
static uint64_t last_full(const bitset_shape *shape)
{
    return shape->bits % WORD_BITS == 0 ? UINT64_MAX : word_bit(shape->bits) - 1;
}

bool bitset_is_full(const bitset_shape *shape, const word *words)
{
    uint32_t last = shape->offset[1] - 1;
    for (uint32_t i = 0; i < last; i++)
        if (word_get(&words[i]) != UINT64_MAX)
            return false;
    return word_get(&words[last]) == last_full(shape);
}

uint32_t bitset_count(const bitset_shape *shape, const word *words)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < shape->offset[1]; i++)
        count += word_count(word_get(&words[i]));
    return count;
}

void bitset_summarize(const bitset_shape *shape, word *words)
{
    for (uint32_t level = 1; level < shape->levels; level++) {
        const word *below = words + shape->offset[level - 1];
        uint32_t below_count = shape->offset[level] - shape->offset[level - 1];
        for (uint32_t i = shape->offset[level]; i < shape->offset[level + 1]; i++)
            word_set(&words[i], 0);
        for (uint32_t i = 0; i < below_count; i++) {
            if (word_get(&below[i]) != 0) {
                word *up = &words[shape->offset[level] + i / WORD_BITS];
                word_set(up, word_get(up) | word_bit(i));
            }
        }
    }
}

bool bitset_has_no_excess(const bitset_shape *shape, const word *words)
{
    return (word_get(&words[shape->offset[1] - 1]) & ~last_full(shape)) == 0;
}

bool bitset_is_summarized(const bitset_shape *shape, const word *words, uint32_t top)
{
    for (uint32_t level = 1; level <= top; level++) {
        uint32_t below_count = shape->offset[level] - shape->offset[level - 1];
        uint32_t count = shape->offset[level + 1] - shape->offset[level];
        for (uint32_t i = 0; i < count * WORD_BITS; i++) {
            bool expected = i < below_count && word_get(&words[shape->offset[level - 1] + i]) != 0;
            if (bitset_has(words + shape->offset[level], i) != expected)
                return false;
        }
    }
    return true;
}

void bitset_raise(const bitset_shape *shape, word *words, size_t index)
{
    for (uint32_t level = 1; level < shape->levels; level++) {
        word *up = &words[shape->offset[level] + index / WORD_BITS];
        uint64_t old = word_get(up);
        word_set(up, old | word_bit(index));
        if (old != 0)
            return;
        index /= WORD_BITS;
    }
}

void bitset_lower(const bitset_shape *shape, word *words, size_t index)
{
    for (uint32_t level = 1; level < shape->levels; level++) {
        word *up = &words[shape->offset[level] + index / WORD_BITS];
        uint64_t rest = word_get(up) & ~word_bit(index);
        word_set(up, rest);
        if (rest != 0)
            return;
        index /= WORD_BITS;
    }
}

bitset_shared bitset_share_above(const bitset_shape *shape, word *words, size_t index)
{
    uint64_t old = 0;
    for (uint32_t level = 1; old == 0 && level < shape->levels; level++) {
        index /= WORD_BITS;
        old = atomic_fetch_or_explicit(&words[shape->offset[level] + index / WORD_BITS], word_bit(index),
                                       memory_order_acq_rel);
    }
    return old == 0 ? BITSET_BEGAN : BITSET_JOINED;
}

static void take_word(const bitset_shape *shape, word *words, uint32_t level, size_t index,
                      void (*taken)(void *context, size_t index, uint64_t bits), void *context)
{
    uint64_t bits = atomic_exchange_explicit(&words[shape->offset[level] + index], 0, memory_order_acq_rel);
    if (bits != 0 && level == 0)
        taken(context, index, bits);
    for (; level > 0 && bits != 0; bits &= bits - 1)
        take_word(shape, words, level - 1, index * WORD_BITS + word_lowest(bits), taken, context);
}

void bitset_take(const bitset_shape *shape, word *words, void (*taken)(void *context, size_t index, uint64_t bits),
                 void *context)
{
    take_word(shape, words, shape->levels - 1, 0, taken, context);
}
