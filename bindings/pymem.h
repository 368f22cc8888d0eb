/* SPDX-License-Identifier: MIT
 *
 * CPython's `obj` and `mem` domains on the process heap, floor 4, in the running interpreter: new blocks are ours,
 * older ones stay with their maker. One heap serves both domains; its owner is whoever holds the main interpreter's
 * lock. The counters' invariants are stated at the struct.
 */
#ifndef SLABMALLOC_BINDINGS_PYMEM_H
#define SLABMALLOC_BINDINGS_PYMEM_H

#include <stdbool.h>
#include <stdint.h>

#include "heap/heap.h"

typedef enum pymem_domain { PYMEM_OBJ, PYMEM_MEM, PYMEM_DOMAINS } pymem_domain;

/* What one domain did since it was installed.
 *   sum over the domains (served_blocks - freed_blocks) = live objects of the heap
 *   passed = served by the allocator that was there before: too large, heap exhausted, or asked for by an interpreter
 * with a lock of its own. Blocks older than the installation, and what becomes of passed blocks, are not counted. */
typedef struct pymem_counters {
    uint64_t served_blocks;
    uint64_t freed_blocks;
    uint64_t served_bytes;   /* as requested when the block was made */
    uint64_t resized_blocks; /* realloc answered in place */
    uint64_t passed_blocks, passed_bytes;
} pymem_counters;

/* Why nothing can be installed by the caller, who is not in the main interpreter, as a sentence; NULL: it is there.
 * [an interpreter's lock held, or CPython not started] */
const char *pymem_refusal_here(void);
/* Why no domain can be installed, as a sentence; NULL: nothing known. [as above, in the main interpreter] */
const char *pymem_refusal(void);
/* Installs the domains of `mask` (bit 1 << pymem_domain), with a heap in the space that `get_space` returns; those that
 * are installed stay so. NULL, or a sentence that says why nothing was installed. [main interpreter's lock held, or
 * CPython not started] */
const char *pymem_install(unsigned mask, space *(*get_space)(void));
bool pymem_is_installed(pymem_domain domain);
/* [any thread; from one that does not hold the main interpreter's lock they may be a moment apart] */
pymem_counters pymem_count(pymem_domain domain);
/* The heap behind the domains; NULL before the first installation. It is never destroyed. */
heap *pymem_heap(void);
/* The same if the caller may act as its owner, else NULL. [an interpreter's lock held] */
heap *pymem_own_heap(void);

#endif
