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
#include "thread_domain.h"

#define EXPORT __attribute__((visibility("default")))

/* ---- allocate -------------------------------------------------------------------------------------------- */

static NOINLINE void *refused(void)
{
    errno = ENOMEM;
    return NULL;
}

static void *served(void *block) { return UNLIKELY(block == NULL) ? refused() : block; }

static NOINLINE void *malloc_slowly(size_t bytes) { return served(thread_domain_allocate(THREAD_MALLOC, bytes)); }

static void *malloc_nothing(void) { return served(thread_domain_allocate_nothing(THREAD_MALLOC)); }

static NOINLINE void *malloc_not_small(size_t bytes)
{
    heap *h = thread_heap;
    if (UNLIKELY(h->hardened != NULL)) {
        void *block = thread_domain_allocate_hardened(THREAD_MALLOC, h, bytes);
        if (LIKELY(block != NULL))
            return block;
    }
    if (bytes == 0)
        return malloc_nothing();
    slabmalloc_sc *sc = heap_sc_of(&h->view, bytes);
    if (UNLIKELY(sc == NULL))
        return malloc_slowly(bytes);
    return thread_domain_allocate_from(THREAD_MALLOC, h, sc, bytes, malloc_slowly);
}

EXPORT void *malloc(size_t bytes)
{
    heap *h = thread_heap;
    if (UNLIKELY(bytes - 1 >= h->view.small_bytes))
        return malloc_not_small(bytes);
    return thread_domain_allocate_from(THREAD_MALLOC, h, heap_sc_of_small(&h->view, bytes), bytes, malloc_slowly);
}

EXPORT void *calloc(size_t count, size_t bytes)
{
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total))
        return refused();
    return total == 0 ? malloc_nothing() : served(thread_domain_allocate_zeroed(THREAD_MALLOC, total));
}

/* `align` is a power of two. */
static void *allocate_aligned(size_t align, size_t bytes)
{
    return served(thread_domain_allocate_aligned(THREAD_MALLOC, bytes, align));
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

/* The address is none of the heap's. */
_Noreturn static NOINLINE void stop(const char *call, void *block)
{
    space *s = process_space();
    if (s == NULL)
        abort();
    stop_process(s, call, SLABMALLOC_FREE_FOREIGN, block, "malloc");
}

static NOINLINE void free_slowly(void *block)
{
    heap *h = thread_heap_if_any();
    if (h == NULL ? thread_domain_free_without_heap(THREAD_MALLOC, block)
                  : thread_domain_free_of_another(THREAD_MALLOC, h, block) ||
                        (h->hardened != NULL && thread_domain_free_hardened(THREAD_MALLOC, h, block)))
        return;
    if (!thread_domain_free(THREAD_MALLOC, block) && block != NULL)
        stop("free", block);
}

EXPORT void free(void *block)
{
    if (UNLIKELY(!thread_domain_free_quickly(THREAD_MALLOC, block)))
        free_slowly(block);
}

static bool may_have_size(void *block, size_t bytes, size_t align)
{
    space *s = process_space_if_any();
    return block == NULL || s == NULL || heap_may_have_size(s, block, bytes, align);
}

/* C23 leaves a wrong size undefined: here it ends the process, as any other wrong free. */
EXPORT void free_sized(void *block, size_t bytes)
{
    char call[64];
    if (UNLIKELY(!may_have_size(block, bytes, 1))) {
        snprintf(call, sizeof(call), "free_sized(%zu)", bytes);
        stop(call, block);
    }
    free(block);
}

EXPORT void free_aligned_sized(void *block, size_t align, size_t bytes)
{
    char call[96];
    if (UNLIKELY(!may_have_size(block, bytes, align))) {
        snprintf(call, sizeof(call), "free_aligned_sized(%zu, %zu)", align, bytes);
        stop(call, block);
    }
    free(block);
}

EXPORT void cfree(void *block);
EXPORT void cfree(void *block) { free(block); }

/* ---- resize ---------------------------------------------------------------------------------------------- */

EXPORT void *realloc(void *block, size_t bytes)
{
    if (block == NULL)
        return malloc(bytes);
    if (bytes == 0) { /* as the C library does it */
        free(block);
        return NULL;
    }
    bool is_foreign;
    void *resized = thread_domain_resize(THREAD_MALLOC, block, bytes, &is_foreign);
    if (UNLIKELY(is_foreign))
        stop("realloc", block);
    return served(resized);
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
    if (bytes == 0 && !heap_is_nothing(s, block))
        stop("malloc_usable_size", block);
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
