/* SPDX-License-Identifier: MIT
 *
 * Where memory comes from, floor 1. This room, huge.c and the heap's arena are the only ones that make system calls.
 * Here: the system's mappings (public, in slabmalloc.h), and the store from which a zone takes its bookkeeping.
 */
#ifndef SLABMALLOC_SLAB_PAGER_H
#define SLABMALLOC_SLAB_PAGER_H

#include "slab/bitset.h"
#include "slab/slab.h"
#include "slabmalloc.h"

/* Bookkeeping of one zone: memory is taken by bumping through chunks from the system, and goes back to it only when the
 * store ends. One owner at a time; bytes are read by anyone.
 *     bytes = sum of the chunks' sizes */
typedef struct store {
    struct store_chunk *chunks;
    size_t used_bytes;
    _Atomic size_t bytes;
    bool is_guarded; /* each chunk lies between guards */
} store;

ALWAYS_INLINE size_t store_bytes(const store *s) { return atomic_load_explicit(&s->bytes, memory_order_relaxed); }

void store_init(store *s, bool is_guarded);
void store_end(store *s);
/* Zeroed, aligned to a cache line, kept until the store ends; NULL: the system refused. */
void *store_take(store *s, size_t bytes);
/* What is taken next, up to `bytes` of it, comes from one chunk, and what is never touched there has no memory
 * (`is_unasked`: the system would put it into huge pages); false: the system refused. */
bool store_reserve(store *s, size_t bytes, bool is_unasked);

size_t os_page_bytes(void);
/* Words that nobody can guess; early in the system's life, only if it has any at once. */
void os_random(uint64_t *words, size_t count);
/* How many of the bytes (whole OS pages) have memory now, or all if the system does not say. */
size_t os_resident_bytes(void *memory, size_t bytes);
/* Makes the bytes zero; whole OS pages in them that have no memory get none by it, if there are not very many. */
void os_zero(void *memory, size_t bytes);

/* How many mappings the system lets a process have, at most as many as it usually does: each costs memory and makes
 * forks slower. A guard parts one in two, or is one more. */
size_t os_most_mappings(void);
/* Memory between two guards, OS pages that nobody can touch; aligned to `align`. NULL: the system refuses. Where there
 * are as many as os_most_guarded already, or the system grants no more mappings, what would be guards is memory too. */
void *os_map_guarded(size_t bytes, size_t align);
/* Three eighths of the mappings are for these, two each: a quarter for large objects, whose number is bounded for
 * itself, an eighth for all bookkeeping. */
size_t os_most_guarded(void);
int os_unmap_guarded(void *memory, size_t bytes);
/* The memory becomes a guard, or is none any more; errno or 0. */
int os_guard(void *memory, size_t bytes, bool is_guard);
/* The memory becomes a guard for good, until it is unmapped; what it held goes back. errno or 0. */
int os_fence(void *memory, size_t bytes);

/* As slabmalloc_os_remap, for memory that grows. Where it has to move, to an address that lies to multiples of `align`,
 * a power of two, as the old one does, or at one if it was shorter than that: so huge pages stay what they are. (Where
 * addresses are short it may lie otherwise.) */
void *os_grow(void *memory, size_t old_bytes, size_t new_bytes, size_t align);

#endif
