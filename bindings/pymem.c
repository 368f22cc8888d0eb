/* SPDX-License-Identifier: MIT
 *
 * The hooks behind CPython's `obj` and `mem` domains, floor 4. No Python object is touched here. The interpreter's
 * other allocators may wrap these hooks (tracemalloc, debug hooks), and these wrap what was there before. An invalid
 * free is memory corruption in the making, with no caller who could handle it: the process stops with one line.
 */
#include "pymem.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "owner.h"

typedef struct domain {
    PyMemAllocatorEx previous;
    pymem_counters counters; /* [owner] */
    /* Requests that the owner did not make, or that did not end here. [any thread] */
    _Atomic uint64_t passed_blocks, passed_bytes, remote_frees;
    const char *name;
    bool is_installed;
} domain;

static domain domains[PYMEM_DOMAINS] = {[PYMEM_OBJ] = {.name = "obj"}, [PYMEM_MEM] = {.name = "mem"}};
static const PyMemAllocatorDomain python_domains[PYMEM_DOMAINS] = {[PYMEM_OBJ] = PYMEM_DOMAIN_OBJ,
                                                                   [PYMEM_MEM] = PYMEM_DOMAIN_MEM};
static heap *the_heap;
static owner_check owner;

/* ---- the end ------------------------------------------------------------------------------------------------ */

static int describe(char *text, size_t size, const slabmalloc_slot_info *slot, const void *address)
{
    if (slot->page == NULL)
        return snprintf(text, size, "in the heap's range, but on no slab");
    if (slot->slot_index >= slot->capacity)
        return snprintf(text, size, "behind the last slot of a %zu-byte slab", slot->object_bytes);
    const char *state = slot->is_live ? "live" : "already free";
    size_t inside = (size_t)((const char *)address - (const char *)slot->object);
    if (inside == 0)
        return snprintf(text, size, "slot %zu of a %zu-byte slab is %s", slot->slot_index, slot->object_bytes, state);
    return snprintf(text, size, "%zu bytes into slot %zu of a %zu-byte slab, which is %s", inside, slot->slot_index,
                    slot->object_bytes, state);
}

_Noreturn static void stop(const domain *d, const char *what, const void *address)
{
    char state[128], line[256];
    slabmalloc_slot_info slot = heap_inspect(the_heap->space, address);
    describe(state, sizeof(state), &slot, address);
    int length = snprintf(line, sizeof(line), "slabmalloc: %s of %p (%s): %s\n", what, address, d->name, state);
    if (write(STDERR_FILENO, line, (size_t)length) < 0)
        _Exit(134); /* nobody to tell: the status of abort, without its core file */
    abort();
}

/* ---- blocks of the allocator that was there before ------------------------------------------------------------ */

static void count_passed(domain *d, size_t bytes)
{
    atomic_fetch_add_explicit(&d->passed_blocks, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&d->passed_bytes, bytes, memory_order_relaxed);
}

static void *pass_malloc(domain *d, size_t bytes)
{
    void *block = d->previous.malloc(d->previous.ctx, bytes);
    if (block != NULL)
        count_passed(d, bytes);
    return block;
}

static void *pass_calloc(domain *d, size_t count, size_t bytes)
{
    void *block = d->previous.calloc(d->previous.ctx, count, bytes);
    if (block != NULL)
        count_passed(d, count * bytes);
    return block;
}

/* ---- the hooks ------------------------------------------------------------------------------------------------ */

/* The heap gives memory back in small steps, which its callers owe it: one in so many blocks made, one in so many freed. */
enum { BLOCKS_PER_TICK = 256 };

/* Not inlined, and called last: so that the hooks need not keep anything across a call that is rare. */
__attribute__((noinline)) static void *tick_and_return(void *block)
{
    heap_tick(the_heap);
    return block;
}

static inline void *count_served(domain *d, void *block, size_t bytes)
{
    d->counters.served_bytes += bytes;
    if (__builtin_expect(++d->counters.served_blocks % BLOCKS_PER_TICK == 0, 0))
        return tick_and_return(block);
    return block;
}

/* The block, or NULL: the caller is not the heap's owner, or the system refuses. */
static inline void *serve(domain *d, size_t bytes)
{
    if (!owner_is_caller(&owner))
        return NULL;
    void *block = heap_allocate(the_heap, bytes);
    return block == NULL ? NULL : count_served(d, block, bytes);
}

static void *hook_malloc(void *context, size_t bytes)
{
    void *block = serve(context, bytes);
    return __builtin_expect(block != NULL, 1) ? block : pass_malloc(context, bytes);
}

static void *hook_calloc(void *context, size_t count, size_t bytes)
{
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total))
        return NULL;
    domain *d = context;
    void *block = owner_is_caller(&owner) ? heap_allocate_zeroed(the_heap, total) : NULL;
    return block != NULL ? count_served(d, block, total) : pass_calloc(d, count, bytes);
}

/* The heap did not take the block: it is another allocator's, or the caller is wrong. */
__attribute__((noinline)) static void free_elsewhere(domain *d, void *block, slabmalloc_status status)
{
    if (heap_owns(the_heap->space, block))
        stop(d, status == SLABMALLOC_FREE_DOUBLE ? "double free" : "invalid free", block);
    d->previous.free(d->previous.ctx, block);
}

__attribute__((noinline)) static void free_by_another(domain *d, void *block)
{
    slabmalloc_status status = heap_free_remote(the_heap->space, block);
    if (status != SLABMALLOC_OK)
        free_elsewhere(d, block, status);
    else
        atomic_fetch_add_explicit(&d->remote_frees, 1, memory_order_relaxed);
}

static void hook_free(void *context, void *block)
{
    domain *d = context;
    if (!owner_is_caller(&owner)) {
        free_by_another(d, block);
        return;
    }
    slabmalloc_status status = heap_free(the_heap, block);
    if (__builtin_expect(status != SLABMALLOC_OK, 0))
        free_elsewhere(d, block, status);
    else if (__builtin_expect(++d->counters.freed_blocks % BLOCKS_PER_TICK == 0, 0))
        heap_tick(the_heap);
}

/* A block that another interpreter's thread resizes: its heap is not the caller's to allocate from. */
static void *realloc_by_another(domain *d, void *block, size_t bytes)
{
    size_t usable = heap_usable_bytes(the_heap->space, block);
    void *moved = pass_malloc(d, bytes);
    if (moved == NULL)
        return NULL;
    memcpy(moved, block, bytes < usable ? bytes : usable);
    free_by_another(d, block);
    return moved;
}

/* The heap has no such live block: it is another allocator's, or the caller is wrong. */
__attribute__((noinline)) static void *realloc_elsewhere(domain *d, void *block, size_t bytes)
{
    if (heap_owns(the_heap->space, block))
        stop(d, "invalid realloc", block);
    return d->previous.realloc(d->previous.ctx, block,
                               bytes); /* its size is its maker's secret: it can't be moved here */
}

static void *hook_realloc(void *context, void *block, size_t bytes)
{
    domain *d = context;
    if (block == NULL)
        return hook_malloc(context, bytes);
    size_t usable = heap_usable_bytes(the_heap->space, block);
    if (usable == 0)
        return realloc_elsewhere(d, block, bytes);
    if (!owner_is_caller(&owner))
        return heap_fits(usable, bytes) ? block : realloc_by_another(d, block, bytes);
    slabmalloc_status status;
    void *resized = heap_reallocate(the_heap, block, bytes, &status);
    if (resized == block) {
        d->counters.resized_blocks++;
    } else if (resized != NULL) {
        d->counters.freed_blocks++;
        count_served(d, resized, bytes);
    }
    return resized;
}

/* ---- installation --------------------------------------------------------------------------------------------- */

const char *pymem_refusal(void)
{
#ifdef Py_GIL_DISABLED
    return "a free-threaded interpreter keeps its own heaps for the domains obj and mem: its collector walks them";
#else
    /* Other interpreters' threads read the allocators without a lock, so these must not change under them. */
    return owner_check_prepare(&owner) ? NULL : "install slabmalloc in the main interpreter, before others are made";
#endif
}

static void install(pymem_domain which)
{
    domain *d = &domains[which];
    PyMem_GetAllocator(python_domains[which], &d->previous);
    PyMemAllocatorEx hooks = {
        .ctx = d, .malloc = hook_malloc, .calloc = hook_calloc, .realloc = hook_realloc, .free = hook_free};
    PyMem_SetAllocator(python_domains[which], &hooks);
    d->is_installed = true;
}

const char *pymem_install(unsigned mask)
{
    unsigned wanted = 0;
    for (pymem_domain which = PYMEM_OBJ; which < PYMEM_DOMAINS; which++)
        if ((mask >> which & 1) != 0 && !domains[which].is_installed)
            wanted |= 1u << which;
    if (wanted == 0)
        return NULL;
    const char *refusal = pymem_refusal();
    if (refusal != NULL)
        return refusal;
    if (the_heap == NULL)
        the_heap = heap_create(0);
    if (the_heap == NULL)
        return "the system grants no address space for the heap (see ulimit -v)";
    for (pymem_domain which = PYMEM_OBJ; which < PYMEM_DOMAINS; which++)
        if ((wanted >> which & 1) != 0)
            install(which);
    return NULL;
}

bool pymem_is_installed(pymem_domain domain) { return domains[domain].is_installed; }

pymem_counters pymem_count(pymem_domain domain)
{
    struct domain *d = &domains[domain];
    pymem_counters counters = d->counters;
    counters.freed_blocks += atomic_load_explicit(&d->remote_frees, memory_order_relaxed);
    counters.passed_blocks = atomic_load_explicit(&d->passed_blocks, memory_order_relaxed);
    counters.passed_bytes = atomic_load_explicit(&d->passed_bytes, memory_order_relaxed);
    return counters;
}

heap *pymem_heap(void) { return the_heap; }
