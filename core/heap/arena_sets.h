/* SPDX-License-Identifier: MIT
 *
 * An arena's chunks and the sets they are in, floor 3, for arena.c and arena_lend.c alone.
 */
#ifndef SLABMALLOC_HEAP_ARENA_SETS_H
#define SLABMALLOC_HEAP_ARENA_SETS_H

#include "heap/arena.h"

enum { ALL_UNITS = (1 << ARENA_CHUNK_UNITS) - 1 };

/* In the order in which a unit is looked for: memory that is there first, and chunks and spans that are in use already.
 * A chunk that is free as a whole is spare if its span is. LENT is a set for itself. */
enum { RESTING_PARTIAL, RESTING_WHOLE, RESTING_SPARE, FREE_PARTIAL, FREE_WHOLE, KEYS, LENT = KEYS };

ALWAYS_INLINE size_t span_bytes(const arena *a) { return a->span_chunks * ARENA_CHUNK_BYTES; }

ALWAYS_INLINE size_t span_begin(const arena *a, size_t chunk) { return chunk & ~(size_t)(a->span_chunks - 1); }

/* Is no unit of the chunk's span in use? */
ALWAYS_INLINE bool span_is_spare(const arena *a, size_t chunk)
{
    size_t begin = span_begin(a, chunk), free_chunks = 0;
    for (size_t i = begin; i < begin + a->span_chunks; i++)
        free_chunks += a->free[i] == ALL_UNITS;
    return free_chunks == a->span_chunks;
}

/* The chunk's units become these; its sets and the arena's counts follow. */
void arena_set_units(arena *a, size_t chunk, uint16_t free, uint16_t resting);
/* A chunk of which no unit is free is lent, or is in use. */
void arena_set_lent(arena *a, size_t chunk, bool is_lent);

#endif
