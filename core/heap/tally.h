/* SPDX-License-Identifier: MIT
 *
 * What the owners of a heap asked for, floor 3: counted by whoever serves them, at the price of an instruction a call.
 */
#ifndef SLABMALLOC_HEAP_TALLY_H
#define SLABMALLOC_HEAP_TALLY_H

#include "base/count.h"

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
