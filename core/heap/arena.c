/* SPDX-License-Identifier: MIT
 *
 * The range of addresses of a space: see arena.h for the states of its units.
 */
#include "heap/arena.h"

#include <sys/mman.h>

#include "base/check.h"
#include "heap/addresses.h"
#include "heap/arena_sets.h"
#include "slab/pager.h"

/* 1 TiB; more is for further ranges. */
#define ARENA_MAX_BYTES ((size_t)1 << 40)

/* The sets that a chunk with these units belongs to, a bit each. */
static unsigned key_of(uint16_t free, uint16_t resting, bool is_spare)
{
    unsigned is_whole = free == ALL_UNITS;
    return (resting != 0 ? 1u << (RESTING_PARTIAL + is_whole + is_spare) : 0) |
           (free != 0 ? 1u << (FREE_PARTIAL + is_whole) : 0);
}

/* The span of `chunk`, the first that is not committed, can be used from now on; false: the system does not grant it.
 * Spans are committed one by one: what runs up ends where the range is not committed yet. */
static bool commit(arena *a, size_t chunk)
{
    size_t end = min_size(chunk + a->span_chunks, a->chunk_count);
    char *begin = (char *)a->base + a->committed * ARENA_CHUNK_BYTES;
    if (mprotect(begin, (end - a->committed) * ARENA_CHUNK_BYTES, PROT_READ | PROT_WRITE) != 0)
        return false;
    a->committed = (uint32_t)end;
    return true;
}

static bool arena_try(arena *a, size_t bytes, size_t span, bool is_huge)
{
    uint32_t chunks = (uint32_t)(bytes / ARENA_CHUNK_BYTES);
    bitset_shape shape = bitset_shape_of(chunks);
    size_t set_bytes = sizeof(word) * bitset_words(&shape);
    size_t tables_bytes =
        align_up(ARENA_SETS * set_bytes + 2 * sizeof(uint16_t) * (size_t)chunks, SLABMALLOC_MIN_PAGE_BYTES);
    char *base = addresses_reserve(bytes, span);
    char *tables = base == NULL ? NULL : os_map_guarded(tables_bytes, SLABMALLOC_MIN_PAGE_BYTES);
    if (tables == NULL) {
        if (base != NULL) {
            addresses_unguard(base, bytes);
            munmap(base, bytes);
        }
        return false;
    }
    huge_refuse(tables, tables_bytes);
    *a = (arena){
        .base = (uintptr_t)base,
        .reserved_bytes = bytes,
        .is_huge = is_huge,
        .span_chunks = (uint32_t)(span / ARENA_CHUNK_BYTES),
        .chunk_count = chunks,
        .shape = shape,
        .tables = tables,
        .tables_bytes = tables_bytes,
    };
    for (int k = 0; k < ARENA_SETS; k++)
        a->sets[k] = (word *)(tables + (size_t)k * set_bytes);
    a->free = (uint16_t *)(tables + ARENA_SETS * set_bytes);
    a->resting = a->free + chunks;
    return true;
}

bool arena_init(arena *a, size_t reserve_bytes, size_t least_bytes, const huge_use *huge)
{
    size_t span = huge->is_wanted ? max_size(huge->bytes, ARENA_CHUNK_BYTES) : ARENA_CHUNK_BYTES;
    reserve_bytes = max_size(min_size(min_size(reserve_bytes, ARENA_MAX_BYTES), addresses_share()), least_bytes);
    for (size_t bytes = align_up(reserve_bytes, span); bytes >= least_bytes; bytes = align_up(bytes / 2, span)) {
        if (arena_try(a, bytes, span, huge->is_wanted)) {
            if (huge->is_wanted)
                huge_advise((void *)a->base, bytes);
            else
                huge_refuse((void *)a->base, bytes);
            return true;
        }
        if (bytes == span)
            break;
    }
    return false;
}

void arena_end(arena *a)
{
    char *base = (char *)a->base;
    addresses_unguard(base, a->reserved_bytes);
    size_t step = a->lent_count == 0 ? a->chunk_count : 1;
    for (size_t chunk = 0; chunk < a->chunk_count; chunk += step)
        if (!bitset_has(a->sets[LENT], chunk))
            munmap(base + chunk * ARENA_CHUNK_BYTES, step * ARENA_CHUNK_BYTES);
    os_unmap_guarded(a->tables, a->tables_bytes);
}

/* ---- sets of chunks -------------------------------------------------------------------------------------- */

static void set_add(const arena *a, word *set, size_t chunk)
{
    word *w = &set[chunk / WORD_BITS];
    uint64_t old = word_get(w);
    word_set(w, old | word_bit(chunk));
    if (old == 0)
        bitset_raise(&a->shape, set, chunk / WORD_BITS);
}

static void set_remove(const arena *a, word *set, size_t chunk)
{
    word *w = &set[chunk / WORD_BITS];
    uint64_t rest = word_get(w) & ~word_bit(chunk);
    word_set(w, rest);
    if (rest == 0)
        bitset_lower(&a->shape, set, chunk / WORD_BITS);
}

static size_t set_lowest(const arena *a, const word *set)
{
    size_t at = bitset_first_word(&a->shape, set);
    return at == SIZE_MAX ? SIZE_MAX : at * WORD_BITS + word_lowest(word_get(&set[at]));
}

/* SIZE_MAX: the set is empty. */
static size_t set_highest(const arena *a, const word *set)
{
    size_t index = 0;
    for (uint32_t level = a->shape.levels; level-- > 0;) {
        uint64_t bits = word_get(&set[a->shape.offset[level] + index]);
        if (bits == 0)
            return SIZE_MAX;
        index = index * WORD_BITS + (WORD_BITS - 1 - (size_t)__builtin_clzll(bits));
    }
    return index;
}

/* The chunk's span has become spare, or is so no more: the other chunks that are free as a whole are sorted anew. */
static void span_sort(arena *a, size_t chunk, bool is_spare)
{
    size_t begin = span_begin(a, chunk);
    for (size_t i = begin; i < begin + a->span_chunks; i++)
        if (i != chunk && a->resting[i] != 0 && a->free[i] == ALL_UNITS) {
            set_remove(a, a->sets[is_spare ? RESTING_WHOLE : RESTING_SPARE], i);
            set_add(a, a->sets[is_spare ? RESTING_SPARE : RESTING_WHOLE], i);
        }
}

/* Of the chunk's span, the units that may be purged. */
static size_t span_spare_count(const arena *a, size_t chunk, bool is_spare)
{
    size_t begin = span_begin(a, chunk), count = 0;
    for (size_t i = begin; (is_spare || !a->is_huge) && i < begin + a->span_chunks; i++)
        count += word_count(a->resting[i]);
    return count;
}

void arena_set_units(arena *a, size_t chunk, uint16_t free, uint16_t resting)
{
    bool was_spare = span_is_spare(a, chunk);
    unsigned old = key_of(a->free[chunk], a->resting[chunk], was_spare);
    a->spare_count -= span_spare_count(a, chunk, was_spare);
    a->in_use_count += (size_t)word_count(a->free[chunk]) - word_count(free);
    a->resting_count += (size_t)word_count(resting) - word_count(a->resting[chunk]);
    a->free[chunk] = free;
    a->resting[chunk] = resting;
    bool is_spare = span_is_spare(a, chunk);
    unsigned new = key_of(free, resting, is_spare);
    a->spare_count += span_spare_count(a, chunk, is_spare);
    for (unsigned k = 0; k < KEYS; k++) {
        if ((old & ~new) >> k & 1)
            set_remove(a, a->sets[k], chunk);
        if ((new & ~old) >> k & 1)
            set_add(a, a->sets[k], chunk);
    }
    if (was_spare != is_spare)
        span_sort(a, chunk, is_spare);
}

void arena_set_lent(arena *a, size_t chunk, bool is_lent)
{
    ASSERT(a->free[chunk] == 0);
    if (is_lent) {
        set_add(a, a->sets[LENT], chunk);
        a->lent_count++;
        a->in_use_count -= ARENA_CHUNK_UNITS;
    } else {
        set_remove(a, a->sets[LENT], chunk);
        a->lent_count--;
        a->in_use_count += ARENA_CHUNK_UNITS;
    }
}

/* ---- pages ----------------------------------------------------------------------------------------------- */

/* A chunk with a free unit, or that is free as a whole; a fresh span comes into the arena's books for it. SIZE_MAX:
 * there is none. */
static size_t chunk_choose(arena *a, bool is_whole)
{
    static const uint8_t any[] = {RESTING_PARTIAL, RESTING_WHOLE, RESTING_SPARE, FREE_PARTIAL, FREE_WHOLE};
    static const uint8_t whole[] = {RESTING_WHOLE, RESTING_SPARE, FREE_WHOLE};
    for (size_t i = 0; i < (is_whole ? sizeof whole : sizeof any); i++) {
        size_t chunk = set_lowest(a, a->sets[is_whole ? whole[i] : any[i]]);
        if (chunk != SIZE_MAX)
            return chunk;
    }
    size_t chunk = arena_fresh(a);
    if (chunk == a->chunk_count || (chunk == a->committed && !commit(a, chunk)))
        return SIZE_MAX;
    atomic_store_explicit(&a->fresh, (uint32_t)chunk + a->span_chunks, memory_order_relaxed);
    for (size_t i = chunk; i < chunk + a->span_chunks; i++) {
        a->in_use_count += ARENA_CHUNK_UNITS; /* as a chunk that arena_set_units is about to free */
        arena_set_units(a, i, ALL_UNITS, 0);
    }
    return chunk;
}

/* All units of the chunk's span, none of which is in use, have memory from now on, or none has. */
static void span_set(arena *a, size_t chunk, uint16_t resting)
{
    size_t begin = span_begin(a, chunk);
    for (size_t i = begin; i < begin + a->span_chunks; i++)
        arena_set_units(a, i, ALL_UNITS, resting);
}

void *arena_take(arena *a, size_t page_bytes)
{
    ASSERT(page_bytes == ARENA_UNIT_BYTES || page_bytes == ARENA_CHUNK_BYTES);
    bool is_whole = page_bytes == ARENA_CHUNK_BYTES;
    size_t chunk = chunk_choose(a, is_whole);
    if (chunk == SIZE_MAX)
        return NULL;
    if (a->is_huge && a->resting[chunk] == 0)
        span_set(a, chunk, ALL_UNITS);
    uint16_t free = a->free[chunk], resting = a->resting[chunk];
    size_t unit = is_whole ? 0 : word_lowest(resting != 0 ? resting : free);
    uint16_t taken = (uint16_t)(is_whole ? ALL_UNITS : 1 << unit);
    arena_set_units(a, chunk, free & (uint16_t)~taken, resting & (uint16_t)~taken);
    a->spare_low = min_size(a->spare_low, a->spare_count);
    a->peak_count = max_size(a->peak_count, a->in_use_count + a->resting_count);
    return (void *)(a->base + chunk * ARENA_CHUNK_BYTES + unit * ARENA_UNIT_BYTES);
}

void arena_give(arena *a, void *page, size_t page_bytes)
{
    size_t offset = (uintptr_t)page - a->base, chunk = offset / ARENA_CHUNK_BYTES;
    ASSERT(offset < a->reserved_bytes && offset % page_bytes == 0);
    uint16_t given = (uint16_t)(page_bytes == ARENA_CHUNK_BYTES ? ALL_UNITS : 1 << offset / ARENA_UNIT_BYTES % 16);
    ASSERT((a->free[chunk] & given) == 0);
    arena_set_units(a, chunk, a->free[chunk] | given, a->resting[chunk] | given);
}

/* Returns the bytes, or 0: memory that is locked stays, for whoever takes the units. */
static size_t purge(arena *a, size_t begin, size_t bytes)
{
    void *memory = (void *)(a->base + begin);
    size_t resident_bytes = os_resident_bytes(memory, bytes); /* the rest nobody has touched, or it has gone before */
    if (slabmalloc_os_purge(memory, bytes) != 0)
        return 0;
    a->given_back_bytes += resident_bytes;
    return bytes;
}

/* The highest spare span; 0: there is none. Adds the bytes that went. */
static size_t purge_span(arena *a, size_t *bytes)
{
    size_t chunk = set_highest(a, a->sets[RESTING_SPARE]);
    if (chunk == SIZE_MAX)
        return 0;
    *bytes += purge(a, span_begin(a, chunk) * ARENA_CHUNK_BYTES, span_bytes(a));
    span_set(a, chunk, 0);
    return span_bytes(a) / ARENA_UNIT_BYTES;
}

/* Up to `count` units of the highest run of neighbours, in one call; 0: nothing rests. */
static size_t purge_run(arena *a, size_t count, size_t *bytes)
{
    size_t whole = set_highest(a, a->sets[RESTING_SPARE]), partial = set_highest(a, a->sets[RESTING_PARTIAL]);
    size_t chunk = whole == SIZE_MAX || (partial != SIZE_MAX && partial > whole) ? partial : whole;
    if (chunk == SIZE_MAX)
        return 0;
    uint16_t resting = a->resting[chunk];
    size_t end = WORD_BITS - (size_t)__builtin_clzll(resting), begin = end - 1;
    while (begin > 0 && (resting >> (begin - 1) & 1) != 0 && end - begin < count)
        begin--;
    *bytes += purge(a, chunk * ARENA_CHUNK_BYTES + begin * ARENA_UNIT_BYTES, (end - begin) * ARENA_UNIT_BYTES);
    arena_set_units(a, chunk, a->free[chunk], resting & (uint16_t)((1u << begin) - 1));
    return end - begin;
}

size_t arena_purge(arena *a, size_t count)
{
    size_t purged = 0, bytes = 0;
    while (purged < count) {
        size_t more = a->is_huge ? purge_span(a, &bytes) : purge_run(a, count - purged, &bytes);
        if (more == 0)
            break;
        purged += more;
    }
    a->spare_low = min_size(a->spare_low, a->spare_count);
    return bytes;
}

size_t arena_note_low(arena *a)
{
    size_t low = a->spare_low;
    a->spare_low = a->spare_count;
    return low;
}

/* Of a span in huge pages: what is free rests, or the span is purged. */
static bool span_is_valid(const arena *a, size_t chunk)
{
    size_t begin = span_begin(a, chunk), resting_chunks = 0, purged_chunks = 0;
    for (size_t i = begin; i < begin + a->span_chunks; i++) {
        resting_chunks += a->resting[i] == a->free[i];
        purged_chunks += a->resting[i] == 0 && a->free[i] == ALL_UNITS;
    }
    return resting_chunks == a->span_chunks || purged_chunks == a->span_chunks;
}

bool arena_is_valid(const arena *a)
{
    size_t free_count = 0, resting_count = 0, spare_count = 0;
    for (size_t chunk = 0; chunk < arena_fresh(a); chunk++) {
        bool is_spare = span_is_spare(a, chunk);
        unsigned key = key_of(a->free[chunk], a->resting[chunk], is_spare);
        if ((a->resting[chunk] & ~a->free[chunk]) != 0 || (a->is_huge && !span_is_valid(a, chunk)))
            return false;
        for (unsigned k = 0; k < KEYS; k++)
            if (bitset_has(a->sets[k], chunk) != (key >> k & 1))
                return false;
        free_count += word_count(a->free[chunk]);
        resting_count += word_count(a->resting[chunk]);
        spare_count += a->is_huge && !is_spare ? 0 : word_count(a->resting[chunk]);
    }
    size_t known_chunks = (size_t)arena_fresh(a) - a->lent_count;
    return resting_count == a->resting_count && spare_count == a->spare_count &&
           free_count + a->in_use_count == known_chunks * ARENA_CHUNK_UNITS;
}
