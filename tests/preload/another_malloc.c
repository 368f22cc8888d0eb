/* SPDX-License-Identifier: MIT
 *
 * Another malloc, to be preloaded before ours: blocks from one range, with their length before them; none comes back.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LENGTH_BYTES = 16 };
#define RANGE_BYTES ((size_t)1 << 34)

static _Atomic(uintptr_t) next_free;

static void *take(size_t bytes, size_t align)
{
    if (atomic_load(&next_free) == 0) {
        void *range =
            mmap(NULL, RANGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        uintptr_t none = 0;
        if (range != MAP_FAILED)
            atomic_compare_exchange_strong(&next_free, &none, (uintptr_t)range);
    }
    align = align < LENGTH_BYTES ? LENGTH_BYTES : align;
    uintptr_t begin = atomic_fetch_add(&next_free, bytes + LENGTH_BYTES + 2 * align);
    uintptr_t block = (begin + LENGTH_BYTES + align - 1) & ~(uintptr_t)(align - 1);
    memcpy((void *)(block - LENGTH_BYTES), &bytes, sizeof(bytes));
    return (void *)block;
}

size_t malloc_usable_size(void *block)
{
    size_t bytes = 0;
    if (block != NULL)
        memcpy(&bytes, (char *)block - LENGTH_BYTES, sizeof(bytes));
    return bytes;
}

void *malloc(size_t bytes) { return take(bytes, 1); }

void *calloc(size_t count, size_t bytes) { return take(count * bytes, 1); }

void free(void *block) { (void)block; }

void *realloc(void *block, size_t bytes)
{
    size_t before = malloc_usable_size(block);
    void *moved = take(bytes, 1);
    if (block != NULL)
        memcpy(moved, block, before < bytes ? before : bytes);
    return moved;
}

void *memalign(size_t align, size_t bytes) { return take(bytes, align); }

void *aligned_alloc(size_t align, size_t bytes) { return take(bytes, align); }

int posix_memalign(void **block, size_t align, size_t bytes)
{
    *block = take(bytes, align);
    return 0;
}
