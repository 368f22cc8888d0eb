/* SPDX-License-Identifier: MIT
 *
 * Counters, floor 0, that one thread writes and any may read: at the price of an instruction.
 */
#ifndef SLABMALLOC_BASE_COUNT_H
#define SLABMALLOC_BASE_COUNT_H

#include "base/bits.h"

/* One instruction where there is one that is no atomic operation, but writes the whole word at once. */
ALWAYS_INLINE void count_add(_Atomic uint64_t *counter, uint64_t more)
{
#if defined(__x86_64__)
    __asm__("addq %1, %0" : "+m"(*counter) : "er"(more) : "cc");
#else
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
#endif
}

/* The same downwards; true: it is 0 now. */
ALWAYS_INLINE bool count_down(_Atomic uint32_t *counter)
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

#endif
