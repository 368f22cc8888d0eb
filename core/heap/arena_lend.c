/* SPDX-License-Identifier: MIT
 *
 * Addresses of an arena that are lent to the system, and come back: see arena.h. What others map there meanwhile is
 * none of the arena's, so it comes back by single spans, at addresses that nobody has.
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

static size_t unused_count(const arena *a, bool is_writable)
{
    return is_writable ? 0 : a->chunk_count - first_unused(a);
}

size_t arena_most_bytes(const arena *a, bool is_writable)
{
    return (unused_count(a, is_writable) + arena_fresh(a) - a->lent_count) * ARENA_CHUNK_BYTES;
}

size_t arena_lendable_bytes(const arena *a, bool is_writable)
{
    size_t count = unused_count(a, is_writable);
    for (size_t chunk = 0; chunk < arena_fresh(a); chunk += a->span_chunks)
        count += span_is_spare(a, chunk) ? a->span_chunks : 0;
    return count * ARENA_CHUNK_BYTES;
}

/* What was never handed out, from the end on. Returns bytes. */
static size_t lend_unused(arena *a, size_t bytes)
{
    size_t wanted = bytes / span_bytes(a) + (bytes % span_bytes(a) != 0);
    size_t count = min_size(wanted, unused_count(a, false) / a->span_chunks) * a->span_chunks;
    size_t first = a->chunk_count - count;
    if (count == 0 || slabmalloc_os_unmap(chunk_address(a, first), count * ARENA_CHUNK_BYTES) != 0)
        return 0;
    a->chunk_count = (uint32_t)first;
    return count * ARENA_CHUNK_BYTES;
}

/* A spare one, which begins with this chunk. False: the system can't part the mapping there, and all is as before. */
static bool lend_span(arena *a, size_t chunk)
{
    size_t resident_bytes = os_resident_bytes(chunk_address(a, chunk), span_bytes(a));
    if (slabmalloc_os_unmap(chunk_address(a, chunk), span_bytes(a)) != 0)
        return false;
    a->given_back_bytes += resident_bytes;
    for (size_t i = chunk; i < chunk + a->span_chunks; i++) {
        arena_set_units(a, i, 0, 0);
        arena_set_lent(a, i, true);
    }
    return true;
}

/* Spans that are spare, with memory or without, the highest first. Returns bytes. */
static size_t lend_spare(arena *a, size_t bytes, bool is_resting)
{
    size_t lent = 0;
    for (size_t end = arena_fresh(a), chunk; lent < bytes && end > 0; end = chunk) {
        chunk = end - a->span_chunks;
        if (span_is_spare(a, chunk) && (a->resting[chunk] != 0) == is_resting && lend_span(a, chunk))
            lent += span_bytes(a);
    }
    return lent;
}

size_t arena_lend(arena *a, size_t bytes, bool is_writable)
{
    size_t lent = is_writable ? 0 : lend_unused(a, bytes);
    for (int is_resting = 0; lent < bytes && is_resting < 2; is_resting++)
        lent += lend_spare(a, bytes - lent, is_resting);
    a->spare_low = min_size(a->spare_low, a->spare_count);
    return lent;
}

size_t arena_lend_some(arena *a, size_t bytes)
{
    size_t lent = lend_unused(a, bytes);
    return lent + lend_spare(a, min_size(bytes - min_size(lent, bytes), SOME_BYTES), false);
}

/* ---- they come back -------------------------------------------------------------------------------------- */

/* The first span behind the end, which was lent without ever having been handed out, is a lent one like others. */
static void enter_end(arena *a)
{
    a->committed = a->chunk_count + a->span_chunks;
    atomic_store_explicit(&a->fresh, a->committed, memory_order_relaxed);
    while (a->chunk_count < a->committed) {
        a->in_use_count += ARENA_CHUNK_UNITS; /* as a chunk that arena_set_lent is about to lend */
        arena_set_lent(a, a->chunk_count++, true);
    }
}

static void come_back(arena *a, size_t chunk)
{
    (a->is_huge ? huge_advise : huge_refuse)(chunk_address(a, chunk), span_bytes(a));
    for (size_t i = chunk; i < chunk + a->span_chunks; i++) {
        arena_set_lent(a, i, false);
        arena_set_units(a, i, ALL_UNITS, 0);
    }
}

/* Round about from where the last call ended, so that spans which somebody has are not asked for again and again. */
bool arena_take_back(arena *a, size_t *tries)
{
    size_t all = a->reserved_bytes / ARENA_CHUNK_BYTES, chunk = min_size(a->next_lent, a->chunk_count) % all;
    if ((a->lent_count == 0 && a->chunk_count == all) || arena_fresh(a) < a->chunk_count)
        return false; /* nothing is lent, or the system refuses memory for what is not */
    for (size_t left = all; left > 0 && *tries > 0; left -= a->span_chunks, chunk = (chunk + a->span_chunks) % all) {
        if (chunk < a->chunk_count && !bitset_has(a->sets[LENT], chunk))
            continue;
        --*tries;
        int reason = addresses_map_at(chunk_address(a, chunk), span_bytes(a));
        if (reason != 0 && reason != EEXIST)
            return false;
        if (chunk == a->chunk_count)
            enter_end(a);
        a->next_lent = (uint32_t)(chunk + a->span_chunks);
        if (reason == 0) {
            come_back(a, chunk);
            return true;
        }
    }
    return false;
}
