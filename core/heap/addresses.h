/* SPDX-License-Identifier: MIT
 *
 * Addresses without memory, floor 3, for the ranges of arenas: what the system grants where they are scarce, a guard
 * below, and parts that go to the system for a while.
 */
#ifndef SLABMALLOC_HEAP_ADDRESSES_H
#define SLABMALLOC_HEAP_ADDRESSES_H

#include <stdbool.h>
#include <stddef.h>

/* `bytes` of addresses that nobody can touch, which begin at a multiple of `align`, and a guard below them; NULL: the
 * system refuses. */
char *addresses_reserve(size_t bytes, size_t align);
/* The guard below so many bytes of addresses goes; they themselves are the caller's to unmap. */
void addresses_unguard(char *base, size_t bytes);

/* What one range may take: of a limited address space a part, for it is for large objects, stacks and libraries too;
 * and no more than memory that may be written to. */
size_t addresses_share(void);

/* By how much a process passes its limits. */
typedef struct addresses_excess {
    size_t all_bytes;      /* RLIMIT_AS (`ulimit -v`): of addresses */
    size_t writable_bytes; /* RLIMIT_DATA (`ulimit -d`): of private memory that can be written */
} addresses_excess;

/* With `bytes` more than it has. False: the system does not tell what it has; as if that were all that it may have. */
bool addresses_excess_with(size_t bytes, addresses_excess *excess);

/* Memory that can be written, at this very address; 0, or EEXIST: something is mapped there, or why the system
 * refuses. */
int addresses_map_at(char *address, size_t bytes);

#endif
