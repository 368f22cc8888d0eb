/* SPDX-License-Identifier: MIT
 *
 * The process heap, floor 3: one zone over an arena of its own, for callers who give no layout back.
 * Pages are 64 KiB, their meta-data lies apart, and an address finds its slab by page number in one comparison and one
 * load. One owner at a time (for CPython's domains: whoever holds the interpreter lock); frees from any thread.
 */
#ifndef SLABMALLOC_HEAP_H
#define SLABMALLOC_HEAP_H

#include "slabmalloc.h"

typedef struct heap heap;

#define HEAP_PAGE_BYTES ((size_t)64 * 1024)
#define HEAP_MAX_BYTES ((size_t)8 * 1024) /* larger requests belong to the allocator that was there before */

typedef struct heap_stats {
    size_t live_objects, live_bytes;        /* now, by class size */
    size_t mapped_bytes, peak_mapped_bytes; /* pages that hold slabs, resting pages included / its maximum */
    size_t resting_bytes;                   /* pages that are empty but not yet purged */
    uint64_t given_back_bytes;              /* purged so far */
    size_t reserved_bytes, bookkeeping_bytes;
    uint64_t remote_frees;
} heap_stats;

/* Reserves address space (0: 64 GiB, halved until the system grants it); NULL: not even 64 MiB. Owned by the caller. */
heap *heap_create(size_t reserve_bytes);
void heap_destroy(heap *h);

/* 0 ... HEAP_MAX_BYTES bytes (0 is served as 1), aligned to 16. NULL: too large, or the range is used up. [owner] */
void *heap_allocate(heap *h, size_t bytes);
/* One comparison: did this heap make `object`? [any thread] */
bool heap_owns(const heap *h, const void *object);
/* [owner] / [any thread]; every free is checked. */
slabmalloc_status heap_free(heap *h, void *object);
slabmalloc_status heap_free_remote(heap *h, void *object);
/* Usable bytes of a live object of this heap; 0: no live object begins there. [any thread, for its own objects] */
size_t heap_usable_bytes(const heap *h, const void *object);
/* A small, bounded part of the work of giving memory back; callers owe it now and then, say each thousand allocations.
 * [owner] */
void heap_tick(heap *h);
/* Purges every empty page, and the empty OS pages inside partial slabs; returns the bytes that it purged. [owner] */
size_t heap_trim(heap *h);
heap_stats heap_statistics(heap *h);
const char *heap_audit(heap *h);
slabmalloc_slot_info heap_inspect(heap *h, const void *address);

#endif
