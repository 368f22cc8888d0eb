/* SPDX-License-Identifier: MIT
 *
 * The range of addresses of a space: see arena.h for the states of its units.
 */
#define _GNU_SOURCE
#include "heap/arena.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include "base/check.h"
#include "slab/pager.h"

/* 1 TiB; more is for further ranges. */
#define ARENA_MAX_BYTES ((size_t)1 << 40)

enum { ALL_UNITS = (1 << ARENA_CHUNK_UNITS) - 1, COMMIT_CHUNKS = 8, LIMIT_SHARE = 8 };

/* In the order in which a unit is looked for: memory that is there first, and chunks that are in use already. */
enum { RESTING_PARTIAL, RESTING_WHOLE, FREE_PARTIAL, FREE_WHOLE };

/* The sets that a chunk with these units belongs to, a bit each. */
static unsigned key_of(uint16_t free, uint16_t resting)
{
    unsigned is_whole = free == ALL_UNITS;
    return (resting != 0 ? 1u << (RESTING_PARTIAL + is_whole) : 0) | (free != 0 ? 1u << (FREE_PARTIAL + is_whole) : 0);
}

/* Addresses that cost nothing yet, neither memory nor what the system promises of it. */
static void *reserve(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Chunks [committed, chunk] can be used from now on, and a few more if the system grants them; false: it does not. */
static bool commit(arena *a, size_t chunk)
{
    for (size_t count = COMMIT_CHUNKS; count > 0; count = count > 1 ? 1 : 0) {
        size_t end = min_size(chunk + count, a->chunk_count);
        char *begin = (char *)a->base + a->committed * ARENA_CHUNK_BYTES;
        if (mprotect(begin, (end - a->committed) * ARENA_CHUNK_BYTES, PROT_READ | PROT_WRITE) == 0) {
            a->committed = (uint32_t)end;
            return true;
        }
    }
    return false;
}

/* Where address space is limited it is for large objects, stacks and libraries too: a range takes a share. */
static size_t share_of_address_space(void)
{
    struct rlimit limit;
    bool is_limited = getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
    return is_limited ? max_size(limit.rlim_cur / LIMIT_SHARE, ARENA_CHUNK_BYTES) : SIZE_MAX;
}

static bool arena_try(arena *a, size_t bytes)
{
    uint32_t chunks = (uint32_t)(bytes / ARENA_CHUNK_BYTES);
    bitset_shape shape = bitset_shape_of(chunks);
    size_t set_bytes = sizeof(word) * bitset_words(&shape);
    size_t tables_bytes =
        align_up(ARENA_SETS * set_bytes + 2 * sizeof(uint16_t) * (size_t)chunks, SLABMALLOC_MIN_PAGE_BYTES);
    char *range = reserve(bytes + ARENA_CHUNK_BYTES);
    char *tables = range == NULL ? NULL : slabmalloc_os_map(tables_bytes, SLABMALLOC_MIN_PAGE_BYTES, false);
    if (tables == NULL) {
        if (range != NULL)
            munmap(range, bytes + ARENA_CHUNK_BYTES);
        return false;
    }
    char *base = (char *)align_up((uintptr_t)range, ARENA_CHUNK_BYTES), *end = range + bytes + ARENA_CHUNK_BYTES;
    if (base > range)
        munmap(range, (size_t)(base - range));
    if (base + bytes != end)
        munmap(base + bytes, (size_t)(end - base) - bytes);
    *a = (arena){
        .base = (uintptr_t)base,
        .reserved_bytes = bytes,
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

bool arena_init(arena *a, size_t reserve_bytes, size_t least_bytes)
{
    reserve_bytes = max_size(min_size(min_size(reserve_bytes, ARENA_MAX_BYTES), share_of_address_space()), least_bytes);
    for (size_t bytes = align_up(reserve_bytes, ARENA_CHUNK_BYTES); bytes >= least_bytes;
         bytes = align_up(bytes / 2, ARENA_CHUNK_BYTES))
        if (arena_try(a, bytes))
            return true;
    return false;
}

void arena_end(arena *a)
{
    munmap((void *)a->base, a->reserved_bytes);
    munmap(a->tables, a->tables_bytes);
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

/* The chunk's units become these; its sets and the counts follow. */
static void chunk_set(arena *a, size_t chunk, uint16_t free, uint16_t resting)
{
    unsigned old = key_of(a->free[chunk], a->resting[chunk]), new = key_of(free, resting);
    for (unsigned k = 0; k < ARENA_SETS; k++) {
        if ((old & ~new) >> k & 1)
            set_remove(a, a->sets[k], chunk);
        if ((new & ~old) >> k & 1)
            set_add(a, a->sets[k], chunk);
    }
    a->in_use_count += (size_t)word_count(a->free[chunk]) - word_count(free);
    a->resting_count += (size_t)word_count(resting) - word_count(a->resting[chunk]);
    a->resting_low = min_size(a->resting_low, a->resting_count);
    a->free[chunk] = free;
    a->resting[chunk] = resting;
}

/* ---- pages ----------------------------------------------------------------------------------------------- */

/* A chunk with a free unit, or that is free as a whole, into the arena's books if it is fresh; SIZE_MAX: there is none.
 */
static size_t chunk_choose(arena *a, bool is_whole)
{
    static const uint8_t any[] = {RESTING_PARTIAL, RESTING_WHOLE, FREE_PARTIAL, FREE_WHOLE};
    static const uint8_t whole[] = {RESTING_WHOLE, FREE_WHOLE};
    for (size_t i = 0; i < (is_whole ? sizeof whole : sizeof any); i++) {
        size_t chunk = set_lowest(a, a->sets[is_whole ? whole[i] : any[i]]);
        if (chunk != SIZE_MAX)
            return chunk;
    }
    size_t chunk = arena_fresh(a);
    if (chunk == a->chunk_count || (chunk == a->committed && !commit(a, chunk)))
        return SIZE_MAX;
    atomic_store_explicit(&a->fresh, (uint32_t)chunk + 1, memory_order_relaxed);
    a->in_use_count += ARENA_CHUNK_UNITS; /* as a chunk that chunk_set is about to free */
    chunk_set(a, chunk, ALL_UNITS, 0);
    return chunk;
}

void *arena_take(arena *a, size_t page_bytes)
{
    ASSERT(page_bytes == ARENA_UNIT_BYTES || page_bytes == ARENA_CHUNK_BYTES);
    bool is_whole = page_bytes == ARENA_CHUNK_BYTES;
    size_t chunk = chunk_choose(a, is_whole);
    if (chunk == SIZE_MAX)
        return NULL;
    uint16_t free = a->free[chunk], resting = a->resting[chunk];
    size_t unit = is_whole ? 0 : word_lowest(resting != 0 ? resting : free);
    uint16_t taken = (uint16_t)(is_whole ? ALL_UNITS : 1 << unit);
    chunk_set(a, chunk, free & (uint16_t)~taken, resting & (uint16_t)~taken);
    a->peak_count = max_size(a->peak_count, a->in_use_count + a->resting_count);
    return (void *)(a->base + chunk * ARENA_CHUNK_BYTES + unit * ARENA_UNIT_BYTES);
}

void arena_give(arena *a, void *page, size_t page_bytes)
{
    size_t offset = (uintptr_t)page - a->base, chunk = offset / ARENA_CHUNK_BYTES;
    ASSERT(offset < a->reserved_bytes && offset % page_bytes == 0);
    uint16_t given = (uint16_t)(page_bytes == ARENA_CHUNK_BYTES ? ALL_UNITS : 1 << offset / ARENA_UNIT_BYTES % 16);
    ASSERT((a->free[chunk] & given) == 0);
    chunk_set(a, chunk, a->free[chunk] | given, a->resting[chunk] | given);
}

size_t arena_purge(arena *a, size_t count)
{
    size_t bytes = 0;
    while (count > 0 && a->resting_count > 0) {
        size_t whole = set_highest(a, a->sets[RESTING_WHOLE]), partial = set_highest(a, a->sets[RESTING_PARTIAL]);
        size_t chunk = whole == SIZE_MAX || (partial != SIZE_MAX && partial > whole) ? partial : whole;
        uint16_t resting = a->resting[chunk];
        /* The highest run of neighbours, in one call. */
        size_t end = WORD_BITS - (size_t)__builtin_clzll(resting), begin = end - 1;
        while (begin > 0 && (resting >> (begin - 1) & 1) != 0 && end - begin < count)
            begin--;
        size_t run_bytes = (end - begin) * ARENA_UNIT_BYTES;
        void *run = (void *)(a->base + chunk * ARENA_CHUNK_BYTES + begin * ARENA_UNIT_BYTES);
        bytes += slabmalloc_os_purge(run, run_bytes) == 0 ? run_bytes : 0; /* locked memory stays, for who takes it */
        chunk_set(a, chunk, a->free[chunk], resting & (uint16_t)((1u << begin) - 1));
        count -= end - begin;
    }
    a->purged_bytes += bytes;
    return bytes;
}

size_t arena_note_low(arena *a)
{
    size_t low = a->resting_low;
    a->resting_low = a->resting_count;
    return low;
}

bool arena_is_valid(const arena *a)
{
    size_t free_count = 0, resting_count = 0;
    for (size_t chunk = 0; chunk < arena_fresh(a); chunk++) {
        unsigned key = key_of(a->free[chunk], a->resting[chunk]);
        if ((a->resting[chunk] & ~a->free[chunk]) != 0)
            return false;
        for (unsigned k = 0; k < ARENA_SETS; k++)
            if (bitset_has(a->sets[k], chunk) != (key >> k & 1))
                return false;
        free_count += word_count(a->free[chunk]);
        resting_count += word_count(a->resting[chunk]);
    }
    return resting_count == a->resting_count &&
           free_count + a->in_use_count == (size_t)arena_fresh(a) * ARENA_CHUNK_UNITS;
}
