/* SPDX-License-Identifier: MIT
 *
 * Addresses without memory: see addresses.h.
 */
#define _GNU_SOURCE
#include "heap/addresses.h"

#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/bits.h"
#include "slab/pager.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000 /* before Linux 4.17 it is no more than a hint */
#endif

/* Below a range nobody can write: what runs down from its first page ends there. Where address space is short a range
 * is small, and its guard an OS page. */
#define GUARD_BYTES ((size_t)1 << 20)
enum { GUARD_SHARE = 64, LIMIT_SHARE = 8 };

static size_t guard_bytes(size_t bytes) { return bytes / GUARD_SHARE >= GUARD_BYTES ? GUARD_BYTES : os_page_bytes(); }

char *addresses_reserve(size_t bytes, size_t align)
{
    size_t guard = guard_bytes(bytes), all = guard + bytes + align;
    char *reserved = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return NULL;
    char *base = (char *)align_up((uintptr_t)reserved + guard, align);
    char *begin = base - guard, *end = base + bytes;
    if (begin > reserved)
        munmap(reserved, (size_t)(begin - reserved));
    if (end < reserved + all)
        munmap(end, (size_t)(reserved + all - end));
    return base;
}

void addresses_unguard(char *base, size_t bytes)
{
    size_t guard = guard_bytes(bytes);
    munmap(base - guard, guard);
}

/* SIZE_MAX: there is none. */
static size_t bytes_of(rlim_t limit) { return limit == RLIM_INFINITY ? SIZE_MAX : (size_t)limit; }

static size_t limit_of_addresses(void)
{
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    getrlimit(RLIMIT_AS, &limit);
    return bytes_of(limit.rlim_cur);
}

static size_t limit_of_data(void)
{
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    getrlimit(RLIMIT_DATA, &limit);
    return bytes_of(limit.rlim_cur);
}

size_t addresses_share(void)
{
    size_t limit = limit_of_addresses();
    return limit == SIZE_MAX ? SIZE_MAX : max_size(limit / LIMIT_SHARE, GUARD_BYTES);
}

bool addresses_are_short(size_t bytes)
{
    size_t limit = min_size(limit_of_addresses(), limit_of_data());
    return limit != SIZE_MAX && bytes <= limit;
}

bool addresses_map_at(char *address, size_t bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    char *mapped = mmap(address, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (mapped != MAP_FAILED && mapped != address)
        munmap(mapped, bytes);
    return mapped == address;
}
