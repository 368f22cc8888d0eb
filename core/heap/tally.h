/* SPDX-License-Identifier: MIT
 *
 * What the owners of a heap asked for, floor 3: counted by whoever serves them, at the price of an instruction a call.
 */
#ifndef SLABMALLOC_HEAP_TALLY_H
#define SLABMALLOC_HEAP_TALLY_H

#include "base/bits.h"

enum { HEAP_CALLS_PER_TICK = 64 };

/* Domains of the process that a thread's heap serves (malloc and others), each with counts of its own. */
enum { HEAP_TALLIES = 3 };

/* What an owner asked for, counted by whoever serves him; goes on with the next owner. Written by the owner alone, with
 * plain moves, and read by anyone.
 *     blocks served = (ticks + 1) x HEAP_CALLS_PER_TICK - calls_until_tick */
typedef struct heap_tally {
    _Atomic uint64_t ticks;
    _Atomic uint64_t served_bytes;   /* as requested when the block was made */
    _Atomic uint64_t freed_blocks;   /* of any heap */
    _Atomic uint64_t resized_blocks; /* left in place */
    _Atomic uint32_t calls_until_tick;
} heap_tally;

/* One instruction where there is one that is no atomic operation, but writes the whole word at once. */
ALWAYS_INLINE void heap_count(_Atomic uint64_t *counter, uint64_t more)
{
#if defined(__x86_64__)
    __asm__("addq %1, %0" : "+m"(*counter) : "er"(more) : "cc");
#else
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
#endif
}

/* The same downwards; true: it is 0 now. */
ALWAYS_INLINE bool heap_count_down(_Atomic uint32_t *counter)
{
#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__)
    bool is_zero;
    __asm__("subl $1, %0" : "+m"(*counter), "=@ccz"(is_zero));
    return is_zero;
#else
    uint32_t rest = atomic_load_explicit(counter, memory_order_relaxed) - 1;
    atomic_store_explicit(counter, rest, memory_order_relaxed);
    return rest == 0;
#endif
}

/* Of several. */
typedef struct tally_sum {
    uint64_t served_blocks, served_bytes, freed_blocks, resized_blocks;
} tally_sum;

static inline void tally_add(tally_sum *sum, const heap_tally *tally)
{
    sum->served_blocks += (atomic_load_explicit(&tally->ticks, memory_order_relaxed) + 1) * HEAP_CALLS_PER_TICK -
                          atomic_load_explicit(&tally->calls_until_tick, memory_order_relaxed);
    sum->served_bytes += atomic_load_explicit(&tally->served_bytes, memory_order_relaxed);
    sum->freed_blocks += atomic_load_explicit(&tally->freed_blocks, memory_order_relaxed);
    sum->resized_blocks += atomic_load_explicit(&tally->resized_blocks, memory_order_relaxed);
}

#endif
