/* SPDX-License-Identifier: MIT
 *
 * Large objects, floor 3: each has a mapping of its own, grows by mremap, and rests for a while after its free, so that
 * the next one of its size need not fault its memory in anew. Thread-safe, by one lock that no caller ever holds.
 *
 * A block is live or rests. Records lie apart from the memory, in a table by address.
 *     live_bytes = sum of live blocks' bytes;  resting_bytes = sum of resting blocks' bytes that are not purged
 * Blocks rest, the newest first, until they are older than the decay or the bound is passed:
 *     resting_bytes <= max(bound, (all that is live) / 8, the newest block)
 * One that is too long for a request is divided (large_rest.c): what is left over rests on, right behind the other
 * part, and both know it as long as neither moves or goes back.
 *     b->behind == c  <=>  c->before == b;  then c->address == b->address + b->bytes
 * And fresh memory is paid for with what rests:
 *     live_bytes + resting_bytes <= most_live_bytes + owed_bytes,  or nothing rests
 * A call pays for what takes about a millisecond and owes the rest, which the next calls and ticks pay: nobody waits
 * for long, however large the blocks are; and what is fresh is not touched yet.
 *
 * Huge pages. What lies in one, on the program's advice, the machine's setting or ours (huge.h), goes back as a whole
 * or is cut before (`in_huge`). A block of the length of one begins where one may begin, and takes them along where it
 * moves.
 */
#ifndef SLABMALLOC_HEAP_LARGE_H
#define SLABMALLOC_HEAP_LARGE_H

#include <pthread.h>

#include "slab/huge.h"
#include "slab/pager.h"

typedef struct large_block {
    struct large_block *next;          /* in its bucket, or unused */
    struct large_block *newer, *older; /* while resting */
    uintptr_t address;
    size_t bytes;
    size_t purged_bytes; /* while it is not live: so many of its last bytes have no memory */
    uint64_t freed_ms;
    struct large_block *before, *behind; /* its neighbours, where it was one block with them */
    size_t rested_bytes;                 /* of a live one: so many came from what rested */
    bool has_grown;                      /* while it was live */
    bool rests, is_guarded;
    bool in_huge; /* a huge page may reach across its ends: it is as long as one, or was part of a block that is */
} large_block;

/* Where a block was, for messages about those who still have its address. */
typedef struct large_trace {
    uintptr_t address;
    size_t bytes;
    bool was_moved; /* by large_resize; else it was freed, and has gone back to the system */
} large_trace;

enum { LARGE_TRACES = 16 };

/* Addresses that were a block's, which nobody can touch and nobody gets for a while. */
typedef struct large_fence {
    uintptr_t address; /* 0: none */
    size_t bytes;
} large_fence;

enum { LARGE_FENCES = 64 };

typedef struct large_space {
    pthread_mutex_t lock;
    store store;
    huge_use huge;
    large_block **buckets; /* by address: live blocks */
    bool is_guarded;
    size_t guarded_count, most_guarded; /* blocks between guards */
    large_fence fences[LARGE_FENCES];   /* addresses of guarded blocks that are freed, in a ring from next_fence on */
    size_t next_fence;
    size_t bucket_count, live_count;
    large_block *unused;
    large_block *newest, *oldest; /* resting ones */
    large_block *hollow;          /* addresses without memory that the system did not take back; by next */
    size_t live_bytes, resting_bytes, peak_bytes; /* the peak of both together */
    size_t most_live_bytes;                       /* so far */
    size_t owed_bytes;                            /* of what rests, to be given back soon */
    uint64_t served_count, reused_count, given_back_bytes;
    large_trace traces[LARGE_TRACES]; /* the latest, in turn */
    size_t trace_count;
} large_space;

/* `is_guarded`: each block, up to as many as the system can part, lies between guards, keeps its size, and loses its
 * memory at its free (see large_rest). */
bool large_init(large_space *l, const huge_use *huge, bool is_guarded);
/* Every block goes back to the system, live ones too. */
void large_end(large_space *l);

/* All of these leave errno alone.
 *
 * At least `bytes`, aligned to `align` (a power of two); NULL: the system refuses. *is_zero: its contents are zero. */
void *large_allocate(large_space *l, size_t bytes, size_t align, bool *is_zero);
/* How much may rest, and since when this does. */
typedef struct large_rest {
    size_t bound_bytes;      /* 0: nothing rests */
    size_t other_live_bytes; /* besides live_bytes: an eighth of both may rest, if that is more */
    uint64_t now_ms;
} large_rest;

/* Frees a live block, which rests if it may; false: no live block begins there. */
bool large_free(large_space *l, void *object, const large_rest *rest);
/* Usable bytes of a live block; 0: none begins there. */
size_t large_usable_bytes(large_space *l, const void *object);
/* The live block with at least `bytes`, in place or moved by the kernel, contents kept; NULL: the system refuses, or no
 * live block begins there, and nothing has changed. A block that shrinks gives the memory behind back.
 * *missing_bytes: so many that the system has not; 0: there was no want of memory. */
void *large_resize(large_space *l, void *object, size_t bytes, size_t *missing_bytes);
/* Gives back what rests, the oldest first, until `bytes` are given back or nothing rests: somebody else takes fresh
 * memory. */
void large_shed(large_space *l, size_t bytes);
/* A bounded step of giving back what is owed, or rests since before `before_ms`; true: there is more. */
bool large_decay(large_space *l, uint64_t before_ms);
/* Gives back all that rests; returns bytes. */
size_t large_trim(large_space *l);

/* ---- what is there (large_books.c) ------------------------------------------------------------------------- */

typedef enum large_state { LARGE_UNKNOWN, LARGE_LIVE, LARGE_RESTING, LARGE_GONE, LARGE_MOVED } large_state;

/* The block that holds `address`, or did, as far as that is remembered: its state, and where it begins. O(blocks). */
large_state large_inspect(large_space *l, uintptr_t address, uintptr_t *begin, size_t *bytes);
/* Does a block that rests begin at `address`? O(resting blocks), for addresses at which one can begin. */
bool large_rests_at(large_space *l, uintptr_t address);
/* How much of live blocks and of those that rest is physical memory (see space_count_resident). */
size_t large_resident_bytes(large_space *l);
bool large_is_valid(large_space *l);

#endif
