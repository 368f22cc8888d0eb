/* SPDX-License-Identifier: MIT
 *
 * Addresses of an arena that are lent to the system, and come back: see arena.h. What others map there meanwhile is
 * none of the arena's, so it comes back by single chunks, at addresses that nobody has.
 */
#include <errno.h>

#include "base/check.h"
#include "heap/addresses.h"
#include "heap/arena_sets.h"
#include "slab/pager.h"

#define SOME_BYTES ((size_t)16 << 20)

static char *chunk_address(const arena *a, size_t chunk) { return (char *)a->base + chunk * ARENA_CHUNK_BYTES; }

/* The first of the chunks that are addresses and no more. */
static size_t first_unused(const arena *a) { return max_size(a->committed, arena_fresh(a)); }

bool arena_holds(const arena *a, uintptr_t address)
{
    size_t chunk = (address - a->base) / ARENA_CHUNK_BYTES;
    return chunk < a->chunk_count && !bitset_has(a->sets[LENT], chunk);
}

/* ---- they go --------------------------------------------------------------------------------------------- */

size_t arena_lendable_bytes(const arena *a, bool is_writable)
{
    if (a->is_huge)
        return 0; /* spans come and go as wholes */
    size_t count = is_writable ? 0 : a->chunk_count - first_unused(a);
    for (size_t chunk = 0; chunk < arena_fresh(a); chunk++)
        count += a->free[chunk] == ALL_UNITS;
    return count * ARENA_CHUNK_BYTES;
}

/* What was never handed out, from the end on. Returns bytes. */
static size_t lend_unused(arena *a, size_t bytes)
{
    size_t wanted = bytes / ARENA_CHUNK_BYTES + (bytes % ARENA_CHUNK_BYTES != 0);
    size_t count = min_size(wanted, a->chunk_count - first_unused(a)), first = a->chunk_count - count;
    if (count == 0 || slabmalloc_os_unmap(chunk_address(a, first), count * ARENA_CHUNK_BYTES) != 0)
        return 0;
    a->chunk_count = (uint32_t)first;
    return count * ARENA_CHUNK_BYTES;
}

/* False: the system can't part the mapping there, and all is as before. */
static bool lend_chunk(arena *a, size_t chunk)
{
    size_t resident_bytes = os_resident_bytes(chunk_address(a, chunk), ARENA_CHUNK_BYTES);
    if (slabmalloc_os_unmap(chunk_address(a, chunk), ARENA_CHUNK_BYTES) != 0)
        return false;
    a->given_back_bytes += resident_bytes;
    arena_set_units(a, chunk, 0, 0);
    arena_set_lent(a, chunk, true);
    return true;
}

/* Chunks that are free as a whole, with memory or without, the highest first. Returns bytes. */
static size_t lend_free(arena *a, size_t bytes, bool is_resting)
{
    size_t lent = 0;
    for (size_t chunk = arena_fresh(a); lent < bytes && chunk-- > 0;)
        if (a->free[chunk] == ALL_UNITS && (a->resting[chunk] != 0) == is_resting && lend_chunk(a, chunk))
            lent += ARENA_CHUNK_BYTES;
    return lent;
}

size_t arena_lend(arena *a, size_t bytes, bool is_writable)
{
    if (a->is_huge)
        return 0;
    size_t lent = is_writable ? 0 : lend_unused(a, bytes);
    for (int is_resting = 0; lent < bytes && is_resting < 2; is_resting++)
        lent += lend_free(a, bytes - lent, is_resting);
    a->spare_low = min_size(a->spare_low, a->spare_count);
    return lent;
}

size_t arena_lend_some(arena *a, size_t bytes)
{
    if (a->is_huge)
        return 0;
    size_t lent = lend_unused(a, bytes);
    return lent + lend_free(a, min_size(bytes - min_size(lent, bytes), SOME_BYTES), false);
}

/* ---- they come back -------------------------------------------------------------------------------------- */

/* The first chunk behind the end, which was lent without ever having been handed out, is a lent one like others. */
static void enter_end(arena *a)
{
    a->committed = a->chunk_count + 1;
    atomic_store_explicit(&a->fresh, a->committed, memory_order_relaxed);
    a->in_use_count += ARENA_CHUNK_UNITS; /* as a chunk that arena_set_lent is about to lend */
    arena_set_lent(a, a->chunk_count++, true);
}

static void come_back(arena *a, size_t chunk)
{
    huge_refuse(chunk_address(a, chunk), ARENA_CHUNK_BYTES);
    arena_set_lent(a, chunk, false);
    arena_set_units(a, chunk, ALL_UNITS, 0);
}

/* Round about from where the last call ended, so that chunks which somebody has are not asked for again and again. */
bool arena_take_back(arena *a, size_t *tries)
{
    size_t all = a->reserved_bytes / ARENA_CHUNK_BYTES, chunk = min_size(a->next_lent, a->chunk_count) % all;
    if ((a->lent_count == 0 && a->chunk_count == all) || arena_fresh(a) < a->chunk_count)
        return false; /* nothing is lent, or the system refuses memory for what is not */
    for (size_t left = all; left > 0 && *tries > 0; left--, chunk = (chunk + 1) % all) {
        if (chunk < a->chunk_count && !bitset_has(a->sets[LENT], chunk))
            continue;
        --*tries;
        int reason = addresses_map_at(chunk_address(a, chunk), ARENA_CHUNK_BYTES);
        if (reason != 0 && reason != EEXIST)
            return false;
        if (chunk == a->chunk_count)
            enter_end(a);
        a->next_lent = (uint32_t)(chunk + 1);
        if (reason == 0) {
            come_back(a, chunk);
            return true;
        }
    }
    return false;
}
