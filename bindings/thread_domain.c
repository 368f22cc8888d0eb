/* SPDX-License-Identifier: MIT
 *
 * Domains served from the heaps of threads: see thread_domain.h.
 */
#include "thread_domain.h"

#include <errno.h>

#include "stop.h"

static struct {
    const char *name;
    _Atomic bool is_served;
    _Atomic uint64_t passed_blocks, passed_bytes; /* what did not end here [any thread] */
} domains[THREAD_DOMAINS] = {
    [THREAD_MALLOC] = {.name = "malloc"}, [THREAD_RAW] = {.name = "raw"}, [THREAD_NUMPY] = {.name = "numpy"}};

/* Frees by threads without a heap, which may be many: those of a thread are counted in the share that its number falls
 * on, so that few of them write to one line. */
enum { SHARE_BITS = 4 };
static struct {
    _Alignas(CACHE_LINE_BYTES) _Atomic uint64_t frees[THREAD_DOMAINS];
} without_heap[1 << SHARE_BITS];

static void count_free_without_heap(thread_domain which)
{
    uint64_t number = (uint64_t)(uintptr_t)&thread_heap * UINT64_C(0x9e3779b97f4a7c15); /* of the golden ratio */
    atomic_fetch_add_explicit(&without_heap[number >> (64 - SHARE_BITS)].frees[which], 1, memory_order_relaxed);
}

static uint64_t frees_without_heap(thread_domain which)
{
    uint64_t frees = 0;
    for (int i = 0; i < 1 << SHARE_BITS; i++)
        frees += atomic_load_explicit(&without_heap[i].frees[which], memory_order_relaxed);
    return frees;
}

/* ---- allocate --------------------------------------------------------------------------------------------- */

void thread_domain_tick(heap *h, thread_domain which)
{
    heap_tally *tally = &h->tallies[which];
    count_add(&tally->ticks, 1); /* first: between the two a reader sees too many served, never too few */
    atomic_store_explicit(&tally->calls_until_tick, HEAP_CALLS_PER_TICK, memory_order_relaxed);
    int reason = errno;
    heap_tick(h);
    errno = reason;
}

static void *count_served(heap *h, thread_domain which, void *block, size_t bytes)
{
    if (block == NULL)
        return NULL;
    heap_tally *tally = &h->tallies[which];
    count_add(&tally->served_bytes, bytes);
    if (UNLIKELY(count_down(&tally->calls_until_tick)))
        thread_domain_tick(h, which);
    return block;
}

static void *allocate(thread_domain which, size_t bytes, size_t align,
                      void *(*from_heap)(heap *h, size_t bytes, size_t align))
{
    int reason = errno;
    heap *known = thread_heap_if_any(), *h = LIKELY(known != NULL) ? known : thread_heap_open();
    void *block = h == NULL ? NULL : count_served(h, which, from_heap(h, bytes, align), bytes);
    if (UNLIKELY(known == NULL))
        thread_heap_done(h);
    errno = reason;
    return block;
}

static void *any(heap *h, size_t bytes, size_t align) { return (void)align, heap_allocate(h, bytes); }

static void *zeroed(heap *h, size_t bytes, size_t align) { return (void)align, heap_allocate_zeroed(h, bytes); }

static void *nothing(heap *h, size_t bytes, size_t align)
{
    return (void)bytes, (void)align, heap_allocate_nothing(h->space);
}

void *thread_domain_allocate_nothing(thread_domain which) { return allocate(which, 0, 1, nothing); }

void *thread_domain_allocate(thread_domain which, size_t bytes) { return allocate(which, bytes, 1, any); }

void *thread_domain_allocate_zeroed(thread_domain which, size_t bytes) { return allocate(which, bytes, 1, zeroed); }

void *thread_domain_allocate_aligned(thread_domain which, size_t bytes, size_t align)
{
    return allocate(which, bytes, align, heap_allocate_aligned);
}

/* ---- free and resize -------------------------------------------------------------------------------------- */

/* A block that the heap does not take: another allocator's, or the caller is wrong. */
static void stop_if_owned(thread_domain which, space *s, void *block, const char *call, slabmalloc_status status)
{
    if (s != NULL && heap_owns(s, block))
        stop_process(s, call, status, block, domains[which].name);
}

bool thread_domain_free_without_heap(thread_domain which, void *block)
{
    space *s = process_space_if_any();
    slab *found = s == NULL || s->options.is_hardened ? NULL : space_slab_at(s, (uintptr_t)block);
    if (found == NULL || remote_free(found->sc, found, (uintptr_t)block - slab_page(found)) != SLABMALLOC_OK)
        return false;
    count_free_without_heap(which);
    return true;
}

bool thread_domain_free(thread_domain which, void *block)
{
    if (block == NULL)
        return false;
    int reason = errno;
    heap *h = thread_heap_if_any();
    space *s = process_space_if_any();
    /* A thread without a heap is one that only frees, or is at its end. */
    slabmalloc_status status = h != NULL   ? heap_free(h, block)
                               : s != NULL ? heap_free_remote(s, block)
                                           : SLABMALLOC_FREE_FOREIGN;
    errno = reason;
    if (status != SLABMALLOC_OK)
        stop_if_owned(which, s, block, "free", status);
    else if (h != NULL)
        count_add(&h->tallies[which].freed_blocks, 1);
    else
        count_free_without_heap(which);
    return status == SLABMALLOC_OK;
}

static void *resize(heap *h, thread_domain which, void *block, size_t bytes, bool *is_foreign)
{
    slabmalloc_status status;
    void *resized = heap_reallocate(h, block, bytes, &status);
    *is_foreign = status != SLABMALLOC_OK;
    if (*is_foreign) {
        stop_if_owned(which, h->space, block, "realloc", status);
        return NULL;
    }
    if (resized == block)
        count_add(&h->tallies[which].resized_blocks, 1);
    else if (resized != NULL)
        count_add(&h->tallies[which].freed_blocks, 1);
    return resized == block ? block : count_served(h, which, resized, bytes);
}

/* By a thread to which the system refuses a heap: nothing moves, and to shrink never fails. */
static void *resize_without_heap(space *s, thread_domain which, void *block, size_t bytes, bool *is_foreign)
{
    size_t usable = s == NULL ? 0 : heap_usable_bytes(s, block);
    *is_foreign = usable == 0 && (s == NULL || !heap_is_nothing(s, block));
    if (*is_foreign)
        stop_if_owned(which, s, block, "realloc", SLABMALLOC_FREE_FOREIGN);
    return usable != 0 && bytes <= usable ? heap_left_roomy(s, block) : NULL;
}

void *thread_domain_resize(thread_domain which, void *block, size_t bytes, bool *is_foreign)
{
    int reason = errno;
    heap *h = thread_heap_open();
    void *resized = h != NULL ? resize(h, which, block, bytes, is_foreign)
                              : resize_without_heap(process_space_if_any(), which, block, bytes, is_foreign);
    thread_heap_done(h);
    errno = reason;
    return resized;
}

/* ---- counts ----------------------------------------------------------------------------------------------- */

void thread_domain_count_passed(thread_domain which, size_t bytes)
{
    atomic_fetch_add_explicit(&domains[which].passed_blocks, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&domains[which].passed_bytes, bytes, memory_order_relaxed);
}

void thread_domain_begin(thread_domain which)
{
    atomic_store_explicit(&domains[which].is_served, true, memory_order_release);
}

bool thread_domain_count(thread_domain which, pymem_counters *counters)
{
    space *s = process_space_if_any();
    if (s == NULL || !atomic_load_explicit(&domains[which].is_served, memory_order_acquire))
        return false;
    uint64_t frees = frees_without_heap(which);
    pthread_mutex_lock(&s->lock);
    tally_sum sum = s->past.tallies[which];
    for (const heap *h = s->heaps; h != NULL; h = h->next)
        tally_add(&sum, &h->tallies[which]);
    pthread_mutex_unlock(&s->lock);
    *counters = (pymem_counters){
        .served_blocks = sum.served_blocks,
        .served_bytes = sum.served_bytes,
        .freed_blocks = sum.freed_blocks + frees,
        .resized_blocks = sum.resized_blocks,
        .passed_blocks = atomic_load_explicit(&domains[which].passed_blocks, memory_order_relaxed),
        .passed_bytes = atomic_load_explicit(&domains[which].passed_bytes, memory_order_relaxed),
    };
    return true;
}
