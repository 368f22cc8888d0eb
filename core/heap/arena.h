/* SPDX-License-Identifier: MIT
 *
 * One reserved range of addresses from which the heap takes its pages, floor 3; with the pager room the only one that
 * makes system calls.
 *
 * A page of the arena is in one of three states; page numbers count from the range's beginning:
 *     in use   handed out
 *     resting  back, its physical memory kept: the next one handed out
 *     purged   back without physical memory, or never used yet (numbers >= fresh)
 *     mapped = (in use + resting) x page
 */
#ifndef SLABMALLOC_HEAP_ARENA_H
#define SLABMALLOC_HEAP_ARENA_H

#include "slab/bitset.h"
#include "slabmalloc.h"

typedef struct arena {
    uintptr_t base;
    size_t page_bytes, reserved_bytes;
    uint32_t page_count, fresh; /* pages from number `fresh` on were never handed out */
    bitset_shape shape;
    word *resting, *purged; /* sets of page numbers */
    size_t tables_bytes;
    size_t in_use_count, resting_count, peak_count; /* pages; peak of the first two together */
    uint64_t purged_bytes;                          /* so far */
} arena;

/* `reserve_bytes` of address space, halved until the system grants it; false: not even `least_bytes`. */
bool arena_init(arena *a, size_t reserve_bytes, size_t least_bytes, size_t page_bytes);
void arena_end(arena *a);
/* The lowest resting page, else the lowest purged one, else a fresh one; NULL: the range is used up. */
void *arena_take(arena *a);
/* The page rests; above `rest_limit` resting pages, the highest one is purged. */
void arena_give(arena *a, void *page, size_t rest_limit);
/* Purges resting pages, the highest first, until `rest_limit` are left; returns bytes. */
size_t arena_purge(arena *a, size_t rest_limit);

ALWAYS_INLINE bool arena_owns(const arena *a, uintptr_t address) { return address - a->base < a->reserved_bytes; }

#endif
