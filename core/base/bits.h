/* SPDX-License-Identifier: MIT
 *
 * Words and arithmetic, floor 0: bit scans, alignment, and division by a constant that also tells whether the
 * division was exact. Pure functions, no state. Every builtin used here exists on gcc and clang for every target.
 */
#ifndef SLABMALLOC_BASE_BITS_H
#define SLABMALLOC_BASE_BITS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define ASSUME(condition) ((condition) ? (void)0 : __builtin_unreachable())
#define NOINLINE __attribute__((noinline))
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define CACHE_LINE_BYTES 64

enum { WORD_BITS = 64, WORD_SHIFT = 6 };

/* Index of the lowest set bit; word != 0. The builtin is an int, which compilers then widen in an instruction of its
 * own; the same bytes are `tzcnt` where that exists and `bsf` elsewhere, and agree on all words but 0. */
ALWAYS_INLINE size_t word_lowest(uint64_t word)
{
#if defined(__x86_64__)
    size_t index;
    __asm__("rep bsf %1, %0" : "=r"(index) : "r"(word) : "cc");
    return index;
#else
    return (size_t)__builtin_ctzll(word);
#endif
}

ALWAYS_INLINE uint32_t word_count(uint64_t word) { return (uint32_t)__builtin_popcountll(word); }

ALWAYS_INLINE uint64_t word_bit(size_t index) { return UINT64_C(1) << (index % WORD_BITS); }

/* Sets bit index % 64 of *word; true if it was set before. One instruction where there is one: compilers do not see
 * that the test and the change are the same. */
ALWAYS_INLINE bool word_add(uint64_t *word, size_t index)
{
#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__)
    bool was_set;
    __asm__("bts %2, %0" : "+r"(*word), "=@ccc"(was_set) : "r"((uint64_t)index));
    return was_set;
#else
    uint64_t old = *word;
    *word |= word_bit(index);
    return *word == old;
#endif
}

/* Clears bit index % 64 of *word. */
ALWAYS_INLINE void word_remove(uint64_t *word, size_t index)
{
#if defined(__x86_64__)
    __asm__("btr %1, %0" : "+r"(*word) : "r"((uint64_t)index) : "cc");
#else
    *word &= ~word_bit(index);
#endif
}

ALWAYS_INLINE bool is_power_of_two(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

/* n rounded up to a multiple of `align`, a power of two. */
ALWAYS_INLINE size_t align_up(size_t n, size_t align) { return (n + align - 1) & ~(align - 1); }

ALWAYS_INLINE size_t min_size(size_t a, size_t b) { return a < b ? a : b; }
ALWAYS_INLINE size_t max_size(size_t a, size_t b) { return a > b ? a : b; }

/* Division of any n < 2^32 by a constant d, 2 <= d < 2^32, by one multiplication. With
 *     m = floor(2^64 / d) + 1,   e = m * d - 2^64, so that 0 < e <= d,   and n = k * d + r
 *     n * m = k * 2^64 + (k * e + r * m)
 * the high 64 bits are k, since k * e + r * m < 2^64: for r = d - 1 that is (k + 1) * e < m, and
 * (k + 1) * e <= (k + 1) * d = n + 1 <= 2^32 < m; for a smaller r it is less than (d - 1) * m = 2^64 + e - m < 2^64,
 * since k * e <= k * d < 2^32 < m.
 * The low 64 bits are k * e if d divides n, and else at least m. So one comparison with a constant tells multiples of d
 * below a bound from all else:
 *     d divides n and n / d < c  <=>  low < c * e        for c * d <= 2^32, since c * e <= 2^32 < m
 * Callers pass an offset in a page; a larger n is not seen. (After D. Lemire, O. Kaser, N. Kurz, "Faster remainder by
 * direct computation", 2019, whose m is one less for powers of two.) */
ALWAYS_INLINE uint64_t reciprocal_of(uint32_t d) { return UINT64_MAX / d + 1 + ((d & (d - 1)) == 0); }
ALWAYS_INLINE uint64_t multiples_bound(uint32_t d, uint32_t count) { return count * (reciprocal_of(d) * d); }

typedef struct quotient {
    uint64_t value;
    bool is_within; /* n is a multiple of d, and below the bound */
} quotient;

ALWAYS_INLINE quotient divide(uint64_t n, uint64_t reciprocal, uint64_t bound)
{
#ifdef __SIZEOF_INT128__
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)n * reciprocal;
    uint64_t value = (uint64_t)(product >> 64), rest = (uint64_t)product;
    __asm__("" : "+r"(value), "+r"(rest)); /* two registers from here on, not a pair that callers have to save */
    return (quotient){value, rest < bound};
#else
    uint64_t n_low = n & UINT32_MAX, n_high = n >> 32;
    uint64_t r_low = reciprocal & UINT32_MAX, r_high = reciprocal >> 32;
    uint64_t low = n_low * r_low, cross = n_high * r_low + (low >> 32), middle = n_low * r_high + (cross & UINT32_MAX);
    uint64_t high = n_high * r_high + (cross >> 32) + (middle >> 32);
    return (quotient){high, ((middle << 32) | (low & UINT32_MAX)) < bound};
#endif
}

/* A permutation of 64-bit values whose high bits depend on all bits below: for hashing addresses. */
ALWAYS_INLINE uint64_t hash_multiply(uint64_t value) { return value * UINT64_C(0x9E3779B97F4A7C15); }

/* xorshift64*: the next of a sequence of pseudo-random words; state != 0. */
ALWAYS_INLINE uint64_t random_next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D);
}

#endif
