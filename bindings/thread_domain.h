/* SPDX-License-Identifier: MIT
 *
 * Domains that are served from the calling thread's heap, floor 4: malloc, in the preload library; CPython's `raw`,
 * asked for without the interpreter lock, from any thread, before and after the interpreter's life; NumPy's data in the
 * wrapper form. They share the heaps of threads, so a block of one may be freed by another. An invalid free stops the
 * process. What is not a block of the heap is the caller's to pass on.
 *
 * Counts. Each heap has a tally per domain, which its owner alone writes: see heap.h. The rest is rare, and atomic.
 */
#ifndef SLABMALLOC_BINDINGS_THREAD_DOMAIN_H
#define SLABMALLOC_BINDINGS_THREAD_DOMAIN_H

#include "heap/hardened.h"
#include "pymem.h"
#include "threads.h"

typedef enum thread_domain { THREAD_MALLOC, THREAD_RAW, THREAD_NUMPY, THREAD_DOMAINS } thread_domain;

_Static_assert((int)THREAD_DOMAINS == (int)HEAP_TALLIES, "a tally for each");

/* At least `bytes` (0 is served as 1); NULL: the system refuses. errno is kept. */
void *thread_domain_allocate(thread_domain which, size_t bytes);
/* The same, and every byte of it is 0. */
void *thread_domain_allocate_zeroed(thread_domain which, size_t bytes);
/* The same, aligned to `align`, a power of two. */
void *thread_domain_allocate_aligned(thread_domain which, size_t bytes, size_t align);
/* An address of its own, with no bytes; NULL: the system refuses. */
void *thread_domain_allocate_nothing(thread_domain which);
/* False: it is no block of the heap (NULL is none), and nothing has changed. errno is kept. */
bool thread_domain_free(thread_domain which, void *block);
/* The block with at least `bytes`, in place or moved; NULL: the system refuses and the block is as it was, or
 * *is_foreign: it is no block of the heap. */
void *thread_domain_resize(thread_domain which, void *block, size_t bytes, bool *is_foreign);

/* What nearly every thread_domain_allocate is; `otherwise` is what the caller does else. Calls come at the end, so that
 * there is no frame: count first, and let what is rare take it back. */
ALWAYS_INLINE void *thread_domain_allocate_from(thread_domain which, heap *h, slabmalloc_sc *sc, size_t bytes,
                                                void *(*otherwise)(size_t bytes))
{
    heap_tally *tally = &h->tallies[which];
    uintptr_t object = sc->next;
    if (UNLIKELY(object == NO_SLOT) && UNLIKELY((object = sc_step(sc, true)) == NO_SLOT))
        return otherwise(bytes);
    if (UNLIKELY(count_down(&tally->calls_until_tick))) {
        atomic_store_explicit(&tally->calls_until_tick, 1, memory_order_relaxed);
        return otherwise(bytes);
    }
    count_add(&tally->served_bytes, bytes);
    return sc_allocate_next(sc, object);
}

ALWAYS_INLINE void *thread_domain_allocate_quickly(thread_domain which, size_t bytes, void *(*otherwise)(size_t bytes))
{
    heap *h = thread_heap;
    if (UNLIKELY(bytes - 1 >= h->view.small_bytes))
        return otherwise(bytes);
    return thread_domain_allocate_from(which, h, heap_sc_of_small(&h->view, bytes), bytes, otherwise);
}

/* What nearly every thread_domain_free is; false: it is another kind, and nothing has changed. No frame either. */
ALWAYS_INLINE bool thread_domain_free_quickly(thread_domain which, void *block)
{
    heap *h = thread_heap;
    slab *s = heap_own_slab(&h->view, (uintptr_t)block);
    if (UNLIKELY(s == NULL))
        return false;
    _Atomic uint64_t *freed_blocks = &h->tallies[which].freed_blocks;
    count_add(freed_blocks, 1);
    if (LIKELY(heap_free_quickly(s, (uintptr_t)block, true)))
        return true;
    count_add(freed_blocks, UINT64_MAX);
    return false;
}

/* What nearly every free is of a block of another thread's heap; false: it is another kind, and nothing has changed.
 * `h`: the caller's. */
ALWAYS_INLINE bool thread_domain_free_of_another(thread_domain which, heap *h, void *block)
{
    slab *s = heap_first_slab(&h->view, (uintptr_t)block);
    if (UNLIKELY(s == NULL) || UNLIKELY(slab_zone(s) == h->view.zone) ||
        UNLIKELY(remote_free(s->sc, s, (uintptr_t)block - slab_page(s)) != SLABMALLOC_OK))
        return false;
    count_add(&h->tallies[which].freed_blocks, 1);
    return true;
}

/* The same for a thread that has no heap. */
bool thread_domain_free_without_heap(thread_domain which, void *block);

/* The heap's callers owe it a tick. errno is kept. */
NOINLINE void thread_domain_tick(heap *h, thread_domain which);

/* The same of a hardened heap, the caller's. NULL: it is another kind, and nothing has changed. */
ALWAYS_INLINE void *thread_domain_allocate_hardened(thread_domain which, heap *h, size_t bytes)
{
    void *block = hardened_allocate_quickly(h, bytes);
    heap_tally *tally = &h->tallies[which];
    if (UNLIKELY(block == NULL))
        return NULL;
    count_add(&tally->served_bytes, bytes);
    if (UNLIKELY(count_down(&tally->calls_until_tick)))
        thread_domain_tick(h, which);
    return block;
}

ALWAYS_INLINE bool thread_domain_free_hardened(thread_domain which, heap *h, void *block)
{
    if (UNLIKELY(!hardened_free_quickly(h, block)))
        return false;
    count_add(&h->tallies[which].freed_blocks, 1);
    return true;
}

/* The allocator that was there before has served `bytes`. */
void thread_domain_count_passed(thread_domain which, size_t bytes);
/* From now on the domain is counted. */
void thread_domain_begin(thread_domain which);
/* False: it is not served. [any thread] */
bool thread_domain_count(thread_domain which, pymem_counters *counters);

#endif
