/* SPDX-License-Identifier: MIT
 *
 * One reserved range of addresses from which heaps take their pages, floor 3. It is divided into chunks of 1 MiB, a
 * chunk into 16 units of 64 KiB; a page is a unit or a chunk. This file, addresses.c and those of slab/ that ask the
 * system (os.c, huge.c) are the only ones that make system calls.
 *
 * A unit is in one of three states:
 *     in use   part of a page that was handed out
 *     resting  back, its physical memory kept: among the next to be handed out
 *     purged   back without physical memory, or never used yet (chunks >= fresh)
 *     mapped = (in use + resting) x unit
 * or its chunk is lent: where addresses are short, those of spans that are free as a whole go to the system, and are
 * anybody's until the arena needs them, and nobody has them.
 * By chunk c < fresh:  resting[c] is a subset of free[c];  sets[k] has c  <=>  its key (see arena.c) has k.
 *
 * If huge pages are wanted memory comes and goes by spans, of a huge page or a chunk, whichever is more: a span comes
 * as a whole with the first of its units that is in use, and is purged as a whole when none is. So of each span all
 * free units rest, or all units are purged. Else the range is kept out of huge pages, memory comes and goes by units,
 * and a span is a chunk.
 *     spare_count = units that may be purged: those that rest; with huge pages, in spans without a unit in use
 * Whoever calls holds the lock of the space that the arena belongs to.
 */
#ifndef SLABMALLOC_HEAP_ARENA_H
#define SLABMALLOC_HEAP_ARENA_H

#include "slab/bitset.h"
#include "slab/huge.h"
#include "slabmalloc.h"

#define ARENA_UNIT_BYTES ((size_t)64 * 1024)
#define ARENA_CHUNK_BYTES ((size_t)1024 * 1024)

enum { ARENA_CHUNK_UNITS = 16, ARENA_SETS = 6 };

_Static_assert(ARENA_UNIT_BYTES *ARENA_CHUNK_UNITS == ARENA_CHUNK_BYTES, "a chunk is its units");

typedef struct arena {
    uintptr_t base;
    size_t reserved_bytes;           /* of addresses, lent or not */
    bool is_huge;                    /* huge pages are wanted */
    uint32_t span_chunks;            /* 1 without them */
    uint32_t chunk_count, committed; /* chunks from `committed` on are addresses and no more: fresh <= committed */
    uint32_t lent_count;             /* chunks below fresh */
    uint32_t next_lent;              /* where arena_take_back goes on */
    _Atomic uint32_t fresh;          /* chunks from here on were never handed out */
    uint16_t *free, *resting;        /* by chunk, a bit per unit */
    bitset_shape shape;
    word *sets[ARENA_SETS]; /* sets of chunks */
    void *tables;
    size_t tables_bytes;
    size_t in_use_count, resting_count, peak_count; /* units; the peak of the first two together */
    size_t spare_count, spare_low;                  /* its least since arena_note_low */
    uint64_t given_back_bytes;                      /* memory that was there before it was purged, so far */
} arena;

/* `reserve_bytes` of address space, or an eighth of what RLIMIT_AS allows, or what RLIMIT_DATA does, halved until the
 * system grants it; false: not even `least_bytes`. */
bool arena_init(arena *a, size_t reserve_bytes, size_t least_bytes, const huge_use *huge);
void arena_end(arena *a);
/* A page of one unit or of one chunk, resting memory and low addresses first; NULL: the range is used up, but for what
 * is lent, or the system refuses memory. */
void *arena_take(arena *a, size_t page_bytes);
/* The page rests. */
void arena_give(arena *a, void *page, size_t page_bytes);
/* Purges up to `count` units, the highest first; returns bytes: up to a span more. */
size_t arena_purge(arena *a, size_t count);
/* How many units could have been purged all the time since the call before. */
size_t arena_note_low(arena *a);
bool arena_is_valid(const arena *a);

/* ---- addresses that are lent (arena_lend.c) ------------------------------------------------------------------
 *
 * `is_writable`: of committed chunks alone. What was never handed out is no memory that can be written, and counts for
 * RLIMIT_AS only. */

/* How many bytes could be lent. */
size_t arena_lendable_bytes(const arena *a, bool is_writable);
/* How many there would be if nothing were in use. */
size_t arena_most_bytes(const arena *a, bool is_writable);
/* Lends addresses to the system until they are `bytes`: what was never handed out, then what has no memory, then what
 * rests. Returns how many. */
size_t arena_lend(arena *a, size_t bytes, bool is_writable);
/* The same in a short time: of what has no memory alone, and no more than some of what was ever handed out. */
size_t arena_lend_some(arena *a, size_t bytes);
/* One of the spans that are lent, and that nobody has now, is free again; takes from *tries how many it asked for, to
 * zero at most. False: there is none among them, or the system refuses. */
bool arena_take_back(arena *a, size_t *tries);
/* Is an address of the range the arena's, and not lent? */
bool arena_holds(const arena *a, uintptr_t address);

/* Without the lock as well: a moment later it may be more. */
ALWAYS_INLINE uint32_t arena_fresh(const arena *a) { return atomic_load_explicit(&a->fresh, memory_order_relaxed); }

#endif
