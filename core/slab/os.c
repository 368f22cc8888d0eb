/* SPDX-License-Identifier: MIT
 *
 * The operating system, as the pager room sees it: mappings, advice, purge. Linux; errno says what went wrong.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "slab/pager.h"

#ifndef MAP_HUGETLB
#define MAP_HUGETLB 0x40000
#endif

size_t os_page_bytes(void)
{
    static _Atomic size_t cached;
    size_t bytes = atomic_load_explicit(&cached, memory_order_relaxed);
    if (bytes == 0) {
        bytes = (size_t)sysconf(_SC_PAGESIZE);
        atomic_store_explicit(&cached, bytes, memory_order_relaxed);
    }
    return bytes;
}

void os_random(uint64_t *words, size_t count)
{
    if (getrandom(words, count * sizeof(*words), GRND_NONBLOCK) == (ssize_t)(count * sizeof(*words)))
        return;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (size_t i = 0; i < count; i++) /* addresses and the time are better than nothing */
        words[i] = hash_multiply((uintptr_t)&now ^ (uint64_t)now.tv_nsec * (i + 1)) ^ (uintptr_t)words;
}

size_t os_resident_bytes(void *memory, size_t bytes)
{
    enum { PAGES_AT_ONCE = 256 };
    unsigned char pages[PAGES_AT_ONCE];
    size_t os_bytes = os_page_bytes(), resident = 0;
    int kept = errno;
    for (size_t done = 0, step; done < bytes; done += step) {
        step = min_size(bytes - done, PAGES_AT_ONCE * os_bytes);
        if (mincore((char *)memory + done, step, pages) != 0) {
            errno = kept;
            return bytes;
        }
        for (size_t i = 0; i < step / os_bytes; i++)
            resident += (pages[i] & 1u) * os_bytes;
    }
    return resident;
}

void os_zero(void *memory, size_t bytes)
{
    enum { PAGES = 64 };
    unsigned char is_there[PAGES];
    size_t os_bytes = os_page_bytes();
    char *begin = memory, *end = begin + bytes, *first = (char *)align_up((uintptr_t)begin, os_bytes);
    size_t count = first < end ? (size_t)(end - first) / os_bytes : 0;
    int kept = errno;
    if (count == 0 || count > PAGES || mincore(first, count * os_bytes, is_there) != 0) {
        errno = kept;
        memset(memory, 0, bytes);
        return;
    }
    memset(begin, 0, (size_t)(first - begin));
    for (size_t i = 0, next; i < count; i = next) {
        bool is_missing = (is_there[i] & 1) == 0;
        for (next = i + 1; next < count && ((is_there[next] & 1) == 0) == is_missing; next++)
            ;
        char *run = first + i * os_bytes;
        size_t run_bytes = (next - i) * os_bytes;
        /* What is missing may have been swapped out. */
        if (!is_missing || slabmalloc_os_purge(run, run_bytes) != 0)
            memset(run, 0, run_bytes);
    }
    memset(first + count * os_bytes, 0, (size_t)(end - first) - count * os_bytes);
}

static void *map_anonymous(size_t bytes, int extra_flags)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Keeps [memory + skip, memory + skip + bytes) of `span` bytes, where memory + skip is the first aligned address. */
static void *trim_to_aligned(char *memory, size_t span, size_t bytes, size_t align)
{
    char *aligned = (char *)align_up((uintptr_t)memory, align);
    size_t head = (size_t)(aligned - memory), tail = span - head - bytes;
    if (head > 0)
        munmap(memory, head);
    if (tail > 0)
        munmap(aligned + bytes, tail);
    return aligned;
}

void *slabmalloc_os_map(size_t bytes, size_t align, bool huge)
{
    if (bytes == 0 || !is_power_of_two(align) || bytes > SIZE_MAX - align) {
        errno = EINVAL;
        return NULL;
    }
    bytes = align_up(bytes, os_page_bytes());
    if (huge) {
        /* The system aligns huge mappings to the huge page; what wants more is refused. */
        void *memory = map_anonymous(bytes, MAP_HUGETLB);
        if (memory != NULL && (uintptr_t)memory % align != 0) {
            munmap(memory, bytes);
            errno = EINVAL;
            return NULL;
        }
        return memory;
    }
    /* Since Linux 6.7 what is some huge pages long is mostly aligned to them as it comes. */
    size_t span = align_up(bytes, align);
    void *memory = map_anonymous(span, MAP_NORESERVE);
    if (memory == NULL || (uintptr_t)memory % align == 0)
        return memory == NULL ? NULL : trim_to_aligned(memory, span, bytes, align);
    munmap(memory, span);
    span = bytes + align;
    memory = map_anonymous(span, MAP_NORESERVE);
    return memory == NULL ? NULL : trim_to_aligned(memory, span, bytes, align);
}

void *slabmalloc_os_map_file(int fd, uint64_t offset, size_t bytes, size_t align)
{
    if (bytes == 0 || !is_power_of_two(align) || bytes > SIZE_MAX - align) {
        errno = EINVAL;
        return NULL;
    }
    /* Address space first, so that the file can be laid at the aligned place in it. */
    size_t span = align_up(bytes, os_page_bytes()) + align;
    char *reserved = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return NULL;
    char *aligned = trim_to_aligned(reserved, span, align_up(bytes, os_page_bytes()), align);
    if (mmap(aligned, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)offset) == MAP_FAILED) {
        int reason = errno;
        munmap(aligned, bytes);
        errno = reason;
        return NULL;
    }
    return aligned;
}

static size_t read_most_mappings(void)
{
    enum { USUAL = 65530, DIGITS = 24 };
    char text[DIGITS] = {0};
    int kept = errno, file = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, DIGITS - 1);
    if (file >= 0)
        close(file);
    errno = kept;
    return length > 0 ? min_size(strtoul(text, NULL, 10), USUAL) : USUAL;
}

size_t os_most_mappings(void)
{
    static _Atomic size_t cached;
    size_t count = atomic_load_explicit(&cached, memory_order_relaxed);
    if (count == 0) {
        count = read_most_mappings();
        atomic_store_explicit(&cached, count, memory_order_relaxed);
    }
    return count;
}

size_t os_most_guarded(void) { return os_most_mappings() / 16 * 3; }

/* Of os_map_guarded, that are there; those above os_most_guarded have no guards. */
static _Atomic size_t guarded_count;

void *os_map_guarded(size_t bytes, size_t align)
{
    size_t guard = os_page_bytes();
    if (bytes > SIZE_MAX / 4 || align > SIZE_MAX / 4) {
        errno = ENOMEM;
        return NULL;
    }
    bytes = align_up(bytes, guard);
    size_t span = bytes + 2 * guard + (align > guard ? align : 0);
    char *reserved = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return NULL;
    char *memory = (char *)align_up((uintptr_t)reserved + guard, max_size(align, guard));
    char *begin = memory - guard, *end = memory + bytes + guard;
    if (begin > reserved)
        munmap(reserved, (size_t)(begin - reserved));
    if (end < reserved + span)
        munmap(end, (size_t)(reserved + span - end));
    bool has_guards = atomic_fetch_add_explicit(&guarded_count, 1, memory_order_relaxed) < os_most_guarded();
    if ((has_guards && mprotect(memory, bytes, PROT_READ | PROT_WRITE) == 0) ||
        mprotect(begin, (size_t)(end - begin), PROT_READ | PROT_WRITE) == 0)
        return memory;
    atomic_fetch_sub_explicit(&guarded_count, 1, memory_order_relaxed);
    int reason = errno;
    munmap(begin, (size_t)(end - begin));
    errno = reason;
    return NULL;
}

int os_unmap_guarded(void *memory, size_t bytes)
{
    size_t guard = os_page_bytes();
    int reason = slabmalloc_os_unmap((char *)memory - guard, align_up(bytes, guard) + 2 * guard);
    if (reason == 0)
        atomic_fetch_sub_explicit(&guarded_count, 1, memory_order_relaxed);
    return reason;
}

int os_guard(void *memory, size_t bytes, bool is_guard)
{
    int kept = errno, reason = mprotect(memory, bytes, is_guard ? PROT_NONE : PROT_READ | PROT_WRITE) == 0 ? 0 : errno;
    errno = kept;
    return reason;
}

int os_fence(void *memory, size_t bytes)
{
    int kept = errno, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    int reason = mmap(memory, bytes, PROT_NONE, flags, -1, 0) != MAP_FAILED ? 0 : errno;
    errno = kept;
    return reason;
}

int slabmalloc_os_advise_huge(void *memory, size_t bytes)
{
    return madvise(memory, bytes, MADV_HUGEPAGE) == 0 ? 0 : errno;
}

int slabmalloc_os_purge(void *memory, size_t bytes)
{
    int kept = errno, reason = madvise(memory, bytes, MADV_DONTNEED) == 0 ? 0 : errno;
    errno = kept;
    return reason;
}

int slabmalloc_os_unmap(void *memory, size_t bytes)
{
    int kept = errno, reason = munmap(memory, bytes) == 0 ? 0 : errno;
    errno = kept;
    return reason;
}

void *slabmalloc_os_remap(void *memory, size_t old_bytes, size_t new_bytes)
{
    void *moved = mremap(memory, old_bytes, new_bytes, MREMAP_MAYMOVE);
    return moved == MAP_FAILED ? NULL : moved;
}

/* Gives up addresses that were reserved as the target of a move which failed: the system may have freed them by now,
 * and somebody else may have them. Taking them once more shows whether they are free; if not they stay reserved. */
static void unreserve(void *memory, size_t bytes)
{
    void *taken =
        mmap(memory, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (taken != MAP_FAILED)
        munmap(taken, bytes);
}

void *os_grow(void *memory, size_t old_bytes, size_t new_bytes, size_t align)
{
    void *grown = mremap(memory, old_bytes, new_bytes, 0);
    if (grown != MAP_FAILED)
        return grown;
    if (errno == EFAULT) /* no single mapping: to move it fails as well */
        return NULL;
    size_t offset = old_bytes < align ? 0 : (uintptr_t)memory % align, span = new_bytes + offset + align;
    char *reserved = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return slabmalloc_os_remap(memory, old_bytes, new_bytes);
    char *target = (char *)trim_to_aligned(reserved, span, offset + new_bytes, align) + offset;
    if (offset > 0)
        munmap(target - offset, offset);
    grown = mremap(memory, old_bytes, new_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    if (grown != MAP_FAILED)
        return grown;
    int reason = errno;
    unreserve(target, new_bytes);
    errno = reason;
    return NULL;
}

/* ---- the system pager: large pages are mappings of their own, small ones are carved from chunks ------------ */

enum { CHUNK_BYTES = 2 * 1024 * 1024, CARVED_SHIFTS = 32 };

typedef struct free_page {
    struct free_page *next;
} free_page;

/* Per page size, by its log2: pages that came back, and the untouched rest of the newest chunk. */
static struct carving {
    free_page *free;
    char *rest, *end;
} carvings[CARVED_SHIFTS];
static pthread_mutex_t carve_lock = PTHREAD_MUTEX_INITIALIZER;

static void *carve(struct carving *carving, size_t page_bytes)
{
    if (carving->free != NULL) {
        free_page *page = carving->free;
        carving->free = page->next;
        return page;
    }
    if (carving->rest == carving->end) {
        carving->rest = slabmalloc_os_map(CHUNK_BYTES, CHUNK_BYTES, false);
        carving->end = carving->rest == NULL ? NULL : carving->rest + CHUNK_BYTES;
        if (carving->rest == NULL)
            return NULL;
    }
    carving->rest += page_bytes;
    return carving->rest - page_bytes;
}

static void *system_allocate(void *context, size_t page_bytes)
{
    (void)context;
    if (page_bytes >= CHUNK_BYTES)
        return slabmalloc_os_map(page_bytes, page_bytes, false);
    pthread_mutex_lock(&carve_lock);
    void *page = carve(&carvings[word_lowest(page_bytes)], page_bytes);
    pthread_mutex_unlock(&carve_lock);
    return page;
}

static void system_release(void *context, void *page, size_t page_bytes)
{
    (void)context;
    if (page_bytes >= CHUNK_BYTES) {
        slabmalloc_os_unmap(page, page_bytes);
        return;
    }
    /* The first OS page holds the link; the rest need not stay. */
    if (page_bytes > os_page_bytes())
        slabmalloc_os_purge((char *)page + os_page_bytes(), page_bytes - os_page_bytes());
    pthread_mutex_lock(&carve_lock);
    struct carving *carving = &carvings[word_lowest(page_bytes)];
    free_page *freed = page;
    freed->next = carving->free;
    carving->free = freed;
    pthread_mutex_unlock(&carve_lock);
}

slabmalloc_pager slabmalloc_pager_system(void)
{
    return (slabmalloc_pager){.allocate = system_allocate, .release = system_release, .context = NULL};
}
