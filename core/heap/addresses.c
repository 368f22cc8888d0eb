/* SPDX-License-Identifier: MIT
 *
 * Addresses without memory: see addresses.h.
 */
#define _GNU_SOURCE
#include "heap/addresses.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

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

/* SIZE_MAX: there is none, or it is none for the addresses that there are. */
static size_t bytes_of(rlim_t limit) { return limit >= SIZE_MAX ? SIZE_MAX : (size_t)limit; }

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

/* A range is never all in use where fewer bytes can be written: were it longer it would have tables for nothing, and
 * those are writable too. */
size_t addresses_share(void)
{
    size_t limit = limit_of_addresses(), share = limit == SIZE_MAX ? SIZE_MAX : limit / LIMIT_SHARE;
    return max_size(min_size(share, limit_of_data()), GUARD_BYTES);
}

/* What the process has, in OS pages, as /proc/self/statm tells it: size, resident, shared, text, lib, data. The last
 * has stacks that grow as well, which the limit does not count: so it is a little too much. */
typedef struct extent {
    size_t all_count, data_count;
} extent;

/* False: the system does not say. */
static bool read_extent(extent *has)
{
    enum { FIELDS = 6, TEXT_BYTES = 160 };
    char text[TEXT_BYTES] = {0}, *at = text;
    int kept = errno, file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, TEXT_BYTES - 1);
    if (file >= 0)
        close(file);
    size_t fields[FIELDS];
    for (int i = 0; i < FIELDS; i++)
        fields[i] = strtoul(at, &at, 10);
    errno = kept;
    *has = (extent){.all_count = fields[0], .data_count = fields[FIELDS - 1]};
    return length > 0;
}

static size_t excess_of(size_t limit, size_t has, size_t bytes)
{
    return limit == SIZE_MAX || has + bytes <= limit ? 0 : has + bytes - limit;
}

bool addresses_excess_with(size_t bytes, addresses_excess *excess)
{
    size_t all_limit = limit_of_addresses(), data_limit = limit_of_data();
    extent has;
    *excess = (addresses_excess){.all_bytes = 0};
    if (all_limit == SIZE_MAX && data_limit == SIZE_MAX)
        return true;
    bool is_told = read_extent(&has);
    excess->all_bytes = excess_of(all_limit, is_told ? has.all_count * os_page_bytes() : all_limit, bytes);
    excess->writable_bytes = excess_of(data_limit, is_told ? has.data_count * os_page_bytes() : data_limit, bytes);
    return is_told;
}

int addresses_map_at(char *address, size_t bytes)
{
    int kept = errno, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    char *mapped = mmap(address, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    int reason = mapped == MAP_FAILED ? errno : mapped == address ? 0 : EEXIST;
    if (mapped != MAP_FAILED && mapped != address)
        munmap(mapped, bytes);
    errno = kept;
    return reason;
}
