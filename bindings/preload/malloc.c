/* SPDX-License-Identifier: MIT
 *
 * malloc(3) and its kin on the process heap, floor 4: what ISO C, POSIX and the C library promise of each, in errno and
 * for sizes of 0 too. Every thread has a heap; a block may be freed by any. A wrong free ends the process.
 */
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heap/heap.h"
#include "slab/pager.h"
#include "stop.h"
#include "threads.h"

#define EXPORT __attribute__((visibility("default")))

static const char domain[] = "malloc";

/* ---- allocate -------------------------------------------------------------------------------------------- */

static NOINLINE void *refused(void)
{
    errno = ENOMEM;
    return NULL;
}

/* Giving memory back is no business of the caller's errno. */
static NOINLINE void *tick_and_return(heap *h, void *block)
{
    int reason = errno;
    heap_count(&h->counters.ticks, 1); /* first: between the two a reader sees too many served, never too few */
    atomic_store_explicit(&h->calls_until_tick, HEAP_CALLS_PER_TICK, memory_order_relaxed);
    heap_tick(h);
    errno = reason;
    return block;
}

ALWAYS_INLINE void *served(heap *h, void *block, size_t bytes)
{
    if (UNLIKELY(block == NULL))
        return refused();
    heap_count(&h->counters.served_bytes, bytes);
    return UNLIKELY(heap_count_down(&h->calls_until_tick)) ? tick_and_return(h, block) : block;
}

/* The caller is done with the heap, and has the block. */
static void *returned(heap *h, void *block)
{
    thread_heap_done(h);
    return block;
}

static NOINLINE void *malloc_slowly(size_t bytes)
{
    heap *h = thread_heap;
    if (LIKELY(h != NULL))
        return served(h, heap_allocate(h, bytes), bytes);
    h = thread_heap_open();
    return h == NULL ? refused() : returned(h, served(h, heap_allocate(h, bytes), bytes));
}

static NOINLINE void *malloc_at_tick(heap *h, size_t bytes)
{
    atomic_store_explicit(&h->calls_until_tick, 1, memory_order_relaxed);
    return malloc_slowly(bytes);
}

/* Here and in `free`: count first, and call what is rare at the end, so that there is no frame. */
ALWAYS_INLINE void *malloc_from(heap *h, slabmalloc_sc *sc, size_t bytes)
{
    uintptr_t object = sc->next;
    if (UNLIKELY(object == NO_SLOT))
        return malloc_slowly(bytes);
    if (UNLIKELY(heap_count_down(&h->calls_until_tick)))
        return malloc_at_tick(h, bytes);
    heap_count(&h->counters.served_bytes, bytes);
    return sc_allocate_next(sc, object);
}

static NOINLINE void *malloc_not_small(size_t bytes)
{
    heap *h = thread_heap;
    slabmalloc_sc *sc = h == NULL ? NULL : heap_sc_of(&h->view, bytes);
    return UNLIKELY(sc == NULL) ? malloc_slowly(bytes) : malloc_from(h, sc, bytes);
}

EXPORT void *malloc(size_t bytes)
{
    heap *h = thread_heap;
    if (UNLIKELY(h == NULL) || UNLIKELY(bytes - 1 >= ZONE_SMALL_BYTES))
        return malloc_not_small(bytes);
    return malloc_from(h, heap_sc_of_small(&h->view, bytes), bytes);
}

EXPORT void *calloc(size_t count, size_t bytes)
{
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total))
        return refused();
    heap *h = thread_heap_open();
    return h == NULL ? refused() : returned(h, served(h, heap_allocate_zeroed(h, total), total));
}

/* `align` is a power of two. */
static void *allocate_aligned(size_t align, size_t bytes)
{
    heap *h = thread_heap_open();
    return h == NULL ? refused() : returned(h, served(h, heap_allocate_aligned(h, bytes, align), bytes));
}

static void *aligned_or_invalid(size_t align, size_t bytes)
{
    if (!is_power_of_two(align)) {
        errno = EINVAL;
        return NULL;
    }
    return allocate_aligned(align, bytes);
}

EXPORT void *aligned_alloc(size_t align, size_t bytes) { return aligned_or_invalid(align, bytes); }

/* The C library takes the next power of two here. */
EXPORT void *memalign(size_t align, size_t bytes)
{
    if (align > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    size_t power = HEAP_ALIGN_BYTES;
    while (power < align)
        power *= 2;
    return allocate_aligned(power, bytes);
}

EXPORT int posix_memalign(void **block, size_t align, size_t bytes)
{
    if (!is_power_of_two(align) || align % sizeof(void *) != 0)
        return EINVAL;
    int reason = errno;
    void *aligned = allocate_aligned(align, bytes);
    errno = reason; /* the result says it */
    if (aligned == NULL)
        return ENOMEM;
    *block = aligned;
    return 0;
}

EXPORT void *valloc(size_t bytes) { return allocate_aligned(os_page_bytes(), bytes); }

EXPORT void *pvalloc(size_t bytes)
{
    size_t page = os_page_bytes();
    return bytes > SIZE_MAX - page ? refused() : allocate_aligned(page, align_up(bytes, page));
}

/* ---- free ------------------------------------------------------------------------------------------------ */

/* A wrong address. */
_Noreturn static void not_freed(void *block, slabmalloc_status status)
{
    space *s = process_space();
    if (s == NULL)
        abort();
    stop_process(s, stop_name_of(status), block, domain);
}

/* A thread without a heap: one that only frees, or is at its end. */
static NOINLINE void free_without_heap(void *block)
{
    int reason = errno;
    space *s = process_space_if_any();
    slabmalloc_status status = s == NULL ? SLABMALLOC_FREE_FOREIGN : heap_free_remote(s, block);
    errno = reason;
    if (status != SLABMALLOC_OK)
        not_freed(block, status);
    else
        atomic_fetch_add_explicit(&s->frees_without_heap, 1, memory_order_relaxed);
}

static NOINLINE void free_slowly(void *block)
{
    heap *h = thread_heap;
    if (block == NULL)
        return;
    if (h == NULL) {
        free_without_heap(block);
        return;
    }
    int reason = errno;
    slabmalloc_status status = heap_free(h, block);
    errno = reason;
    if (status != SLABMALLOC_OK)
        not_freed(block, status);
    else
        heap_count(&h->counters.freed_blocks, 1);
}

/* It has been counted, and is no quick one. */
static NOINLINE void free_otherwise(heap *h, void *block)
{
    heap_count(&h->counters.freed_blocks, UINT64_MAX);
    free_slowly(block);
}

EXPORT void free(void *block)
{
    heap *h = thread_heap;
    slab *s = LIKELY(h != NULL) ? heap_own_slab(&h->view, (uintptr_t)block) : NULL;
    if (UNLIKELY(s == NULL)) {
        free_slowly(block);
        return;
    }
    heap_count(&h->counters.freed_blocks, 1);
    if (UNLIKELY(!heap_free_quickly(s, (uintptr_t)block)))
        free_otherwise(h, block);
}

EXPORT void free_sized(void *block, size_t bytes)
{
    (void)bytes;
    free(block);
}

EXPORT void free_aligned_sized(void *block, size_t align, size_t bytes)
{
    (void)align, (void)bytes;
    free(block);
}

EXPORT void cfree(void *block);
EXPORT void cfree(void *block) { free(block); }

/* ---- resize ---------------------------------------------------------------------------------------------- */

static void *resize(heap *h, void *block, size_t bytes)
{
    slabmalloc_status status;
    void *resized = heap_reallocate(h, block, bytes, &status);
    if (UNLIKELY(status != SLABMALLOC_OK))
        stop_process(h->space, "invalid realloc", block, domain);
    if (resized == NULL)
        return refused();
    if (resized == block) {
        heap_count(&h->counters.resized_blocks, 1);
        return block;
    }
    heap_count(&h->counters.freed_blocks, 1);
    return served(h, resized, bytes);
}

EXPORT void *realloc(void *block, size_t bytes)
{
    if (block == NULL)
        return malloc(bytes);
    if (bytes == 0) { /* as the C library does it */
        free(block);
        return NULL;
    }
    heap *h = thread_heap_open();
    return h == NULL ? refused() : returned(h, resize(h, block, bytes));
}

EXPORT void *reallocarray(void *block, size_t count, size_t bytes)
{
    size_t total;
    return __builtin_mul_overflow(count, bytes, &total) ? refused() : realloc(block, total);
}

/* ---- what is there --------------------------------------------------------------------------------------- */

EXPORT size_t malloc_usable_size(void *block)
{
    space *s = process_space_if_any();
    if (block == NULL || s == NULL)
        return 0;
    size_t bytes = heap_usable_bytes(s, block);
    if (bytes == 0)
        stop_process(s, "invalid malloc_usable_size", block, domain);
    return bytes;
}

/* 1 if memory went back. */
EXPORT int malloc_trim(size_t kept_bytes)
{
    (void)kept_bytes;
    int reason = errno;
    heap *h = thread_heap_open();
    size_t bytes = h == NULL ? 0 : heap_trim(h);
    thread_heap_done(h);
    errno = reason;
    return bytes > 0;
}

EXPORT int mallopt(int parameter, int value)
{
    (void)parameter, (void)value;
    return 0; /* nothing that it names is ours */
}

EXPORT struct mallinfo2 mallinfo2(void)
{
    struct mallinfo2 info = {.arena = 0};
    space *s = process_space_if_any();
    if (s == NULL)
        return info;
    space_stats stats = space_statistics(s);
    info.arena = stats.mapped_bytes - stats.large_bytes;
    info.ordblks = stats.heaps;
    info.hblks = stats.large_objects;
    info.hblkhd = stats.large_bytes;
    info.uordblks = stats.live_bytes - stats.large_bytes;
    info.fordblks = info.arena - info.uordblks;
    info.keepcost = stats.resting_bytes;
    return info;
}

static int as_int(size_t value) { return value > INT32_MAX ? INT32_MAX : (int)value; }

EXPORT struct mallinfo mallinfo(void)
{
    struct mallinfo2 info = mallinfo2();
    return (struct mallinfo){
        .arena = as_int(info.arena),
        .ordblks = as_int(info.ordblks),
        .hblks = as_int(info.hblks),
        .hblkhd = as_int(info.hblkhd),
        .uordblks = as_int(info.uordblks),
        .fordblks = as_int(info.fordblks),
        .keepcost = as_int(info.keepcost),
    };
}

EXPORT void malloc_stats(void)
{
    space *s = process_space_if_any();
    if (s == NULL)
        return;
    space_stats stats = space_statistics(s);
    fprintf(stderr,
            "slabmalloc: live %zu bytes in %zu blocks (%zu bytes in %zu large ones), mapped %zu, resting %zu, "
            "given back %llu, in %zu heaps\n",
            stats.live_bytes, stats.live_objects, stats.large_bytes, stats.large_objects, stats.mapped_bytes,
            stats.resting_bytes, (unsigned long long)stats.given_back_bytes, stats.heaps);
}

EXPORT int malloc_info(int options, FILE *stream)
{
    if (options != 0)
        return errno = EINVAL, -1;
    space *s = process_space();
    if (s == NULL)
        return errno = ENOMEM, -1;
    space_stats stats = space_statistics(s);
    fprintf(stream, "<malloc version=\"slabmalloc-1\">\n<heap live=\"%zu\" mapped=\"%zu\" resting=\"%zu\"/>\n<sizes>\n",
            stats.live_bytes, stats.mapped_bytes, stats.resting_bytes);
    for (int i = 0; i < SPACE_CLASSES; i++) {
        const space_class_stats *row = &stats.classes[i];
        if (row->object_bytes != 0)
            fprintf(stream, "<size bytes=\"%zu\" live=\"%zu\" free=\"%zu\"/>\n", row->object_bytes, row->live_objects,
                    row->free_objects);
    }
    fprintf(stream, "</sizes>\n<large count=\"%zu\" bytes=\"%zu\"/>\n</malloc>\n", stats.large_objects,
            stats.large_bytes);
    return 0;
}
