/* SPDX-License-Identifier: MIT
 *
 * The heap's range of addresses: see arena.h for the states of its pages.
 */
#define _GNU_SOURCE
#include "heap/arena.h"

#include <sys/mman.h>

#include "base/check.h"

/* 1 TiB in pages of 64 KiB; more is for further ranges. */
#define ARENA_MAX_PAGES ((size_t)1 << 24)

static void *reserve(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

bool arena_init(arena *a, size_t reserve_bytes, size_t least_bytes, size_t page_bytes)
{
    *a = (arena){.page_bytes = page_bytes};
    reserve_bytes = min_size(reserve_bytes, page_bytes * ARENA_MAX_PAGES);
    for (size_t bytes = align_up(reserve_bytes, page_bytes); bytes >= least_bytes;
         bytes = align_up(bytes / 2, page_bytes)) {
        uint32_t pages = (uint32_t)(bytes / page_bytes);
        bitset_shape shape = bitset_shape_of(pages);
        size_t tables_bytes = 2 * sizeof(word) * bitset_words(&shape);
        char *range = reserve(bytes + page_bytes), *tables = range == NULL ? NULL : reserve(tables_bytes);
        if (tables == NULL) {
            if (range != NULL)
                munmap(range, bytes + page_bytes);
            continue;
        }
        char *base = (char *)align_up((uintptr_t)range, page_bytes), *end = range + bytes + page_bytes;
        if (base > range)
            munmap(range, (size_t)(base - range));
        if (base + bytes != end)
            munmap(base + bytes, (size_t)(end - base) - bytes);
        a->base = (uintptr_t)base;
        a->reserved_bytes = bytes;
        a->page_count = pages;
        a->shape = shape;
        a->resting = (word *)tables;
        a->purged = a->resting + bitset_words(&shape);
        a->tables_bytes = tables_bytes;
        return true;
    }
    return false;
}

void arena_end(arena *a)
{
    munmap((void *)a->base, a->reserved_bytes);
    munmap((void *)a->resting, a->tables_bytes);
}

static void members_add(const arena *a, word *set, size_t number)
{
    word *w = &set[number / WORD_BITS];
    uint64_t old = word_get(w);
    word_set(w, old | word_bit(number));
    if (old == 0)
        bitset_raise(&a->shape, set, number / WORD_BITS);
}

static void members_remove(const arena *a, word *set, size_t number)
{
    word *w = &set[number / WORD_BITS];
    uint64_t rest = word_get(w) & ~word_bit(number);
    word_set(w, rest);
    if (rest == 0)
        bitset_lower(&a->shape, set, number / WORD_BITS);
}

/* The lowest member, which is removed; SIZE_MAX: the set is empty. */
static size_t members_pop(const arena *a, word *set)
{
    size_t at = bitset_first_word(&a->shape, set);
    if (at == SIZE_MAX)
        return SIZE_MAX;
    size_t number = at * WORD_BITS + word_lowest(word_get(&set[at]));
    members_remove(a, set, number);
    return number;
}

void *arena_take(arena *a)
{
    size_t number = members_pop(a, a->resting);
    if (number != SIZE_MAX)
        a->resting_count--;
    else
        number = members_pop(a, a->purged);
    if (number == SIZE_MAX) {
        if (a->fresh == a->page_count)
            return NULL;
        number = a->fresh++;
    }
    a->in_use_count++;
    a->peak_count = max_size(a->peak_count, a->in_use_count + a->resting_count);
    return (void *)(a->base + number * a->page_bytes);
}

static size_t highest_resting(const arena *a)
{
    uint32_t level = a->shape.levels - 1;
    size_t index = 0;
    for (;; level--) {
        uint64_t bits = word_get(&a->resting[a->shape.offset[level] + index]);
        index = index * WORD_BITS + (WORD_BITS - 1 - (size_t)__builtin_clzll(bits));
        if (level == 0)
            return index;
    }
}

size_t arena_purge(arena *a, size_t rest_limit)
{
    size_t bytes = 0;
    for (; a->resting_count > rest_limit; a->resting_count--) {
        size_t number = highest_resting(a);
        slabmalloc_os_purge((void *)(a->base + number * a->page_bytes), a->page_bytes);
        members_remove(a, a->resting, number);
        members_add(a, a->purged, number);
        bytes += a->page_bytes;
    }
    a->purged_bytes += bytes;
    return bytes;
}

void arena_give(arena *a, void *page, size_t rest_limit)
{
    ASSERT(arena_owns(a, (uintptr_t)page));
    members_add(a, a->resting, ((uintptr_t)page - a->base) / a->page_bytes);
    a->resting_count++;
    a->in_use_count--;
    arena_purge(a, rest_limit);
}
