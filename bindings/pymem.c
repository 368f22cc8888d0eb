/* SPDX-License-Identifier: MIT
 *
 * The hooks behind CPython's `obj` and `mem` domains, floor 4. No Python object is touched here. The interpreter's
 * other allocators may wrap these hooks (tracemalloc, debug hooks), and these wrap what was there before. An invalid
 * free is memory corruption in the making, with no caller who could handle it: the process stops with one line.
 */
#include "pymem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "owner.h"
#include "python_allocator.h"
#include "stop.h"
#include "threads.h"

typedef struct domain {
    heap_view view; /* of the_heap */
    python_allocator previous;
    pymem_counters counters; /* [owner]; served_blocks follows from the next two */
    uint64_t ticks;
    uint32_t until_tick;
    /* Requests that the owner did not make, or that did not end here. [any thread] */
    _Atomic uint64_t passed_blocks, passed_bytes, remote_frees;
    const char *name;
    bool is_installed;
} domain;

static domain domains[PYMEM_DOMAINS] = {[PYMEM_OBJ] = {.name = "obj", .until_tick = HEAP_CALLS_PER_TICK},
                                        [PYMEM_MEM] = {.name = "mem", .until_tick = HEAP_CALLS_PER_TICK}};
static const python_domain python_domains[PYMEM_DOMAINS] = {[PYMEM_OBJ] = PYTHON_OBJ, [PYMEM_MEM] = PYTHON_MEM};
static heap *the_heap;
static owner_check owner;

/* ---- blocks of the allocator that was there before ------------------------------------------------------------ */

/* See threads.h; tells what it was. */
static bool thread_passes(bool passes)
{
    bool was_passing = thread_is_passing;
    thread_is_passing = passes;
    return was_passing;
}

static void count_passed(domain *d, size_t bytes)
{
    atomic_fetch_add_explicit(&d->passed_blocks, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&d->passed_bytes, bytes, memory_order_relaxed);
}

static void *pass_malloc(domain *d, size_t bytes)
{
    bool was_passing = thread_passes(true);
    void *block = d->previous.malloc(d->previous.context, bytes);
    thread_passes(was_passing);
    if (block != NULL)
        count_passed(d, bytes);
    return block;
}

static void *pass_calloc(domain *d, size_t count, size_t bytes)
{
    bool was_passing = thread_passes(true);
    void *block = d->previous.calloc(d->previous.context, count, bytes);
    thread_passes(was_passing);
    if (block != NULL)
        count_passed(d, count * bytes);
    return block;
}

/* ---- the hooks ------------------------------------------------------------------------------------------------ */

/* Each domain counts down to the next tick: the heap gives memory back in small steps, which its callers owe it.
 *     served_blocks = ticks x HEAP_CALLS_PER_TICK + HEAP_CALLS_PER_TICK - until_tick
 * Hooks count first, for what is rare to take it back, and call it at their end: so they have no frame. */
static void *count_served(domain *d, void *block, size_t bytes)
{
    d->counters.served_bytes += bytes;
    if (--d->until_tick == 0) {
        d->until_tick = HEAP_CALLS_PER_TICK;
        d->ticks++;
        heap_tick(the_heap);
    }
    return block;
}

static NOINLINE void *malloc_slowly(domain *d, size_t bytes)
{
    void *block = owner_is_caller(&owner) ? heap_allocate(the_heap, bytes) : NULL;
    return block == NULL ? pass_malloc(d, bytes) : count_served(d, block, bytes);
}

/* NULL: it is not as quick as that, and nothing has changed. */
ALWAYS_INLINE void *malloc_quickly(domain *d, slabmalloc_sc *sc, size_t bytes)
{
    uintptr_t object = sc->next;
    if (UNLIKELY(object == NO_SLOT) && UNLIKELY((object = sc_step(sc, false)) == NO_SLOT))
        return NULL;
    if (UNLIKELY(--d->until_tick == 0)) {
        d->until_tick = 1;
        return NULL;
    }
    d->counters.served_bytes += bytes;
    return sc_allocate_next(sc, object);
}

static NOINLINE void *malloc_not_small(domain *d, size_t bytes)
{
    slabmalloc_sc *sc = LIKELY(owner_is_caller_quickly(&owner)) ? heap_sc_of(&d->view, bytes) : NULL;
    void *block = UNLIKELY(sc == NULL) ? NULL : malloc_quickly(d, sc, bytes);
    return LIKELY(block != NULL) ? block : malloc_slowly(d, bytes);
}

ALWAYS_INLINE void *malloc_by(domain *d, size_t bytes, bool is_owner)
{
    if (UNLIKELY(bytes - 1 >= d->view.small_bytes) || UNLIKELY(!is_owner))
        return malloc_not_small(d, bytes);
    void *block = malloc_quickly(d, heap_sc_of_small(&d->view, bytes), bytes);
    return LIKELY(block != NULL) ? block : malloc_slowly(d, bytes);
}

static void *hook_malloc(void *context, size_t bytes)
{
    return malloc_by(context, bytes, owner_is_caller_quickly(&owner));
}

/* For owner_check.is_certain, as all that end so. */
static void *hook_malloc_by_owner(void *context, size_t bytes) { return malloc_by(context, bytes, true); }

static NOINLINE void *calloc_slowly(domain *d, size_t count, size_t bytes)
{
    void *block = owner_is_caller(&owner) ? heap_allocate_zeroed(the_heap, count * bytes) : NULL;
    return block != NULL ? count_served(d, block, count * bytes) : pass_calloc(d, count, bytes);
}

ALWAYS_INLINE void *calloc_by(domain *d, size_t count, size_t bytes, bool is_owner)
{
    size_t total;
    if (UNLIKELY(__builtin_mul_overflow(count, bytes, &total)))
        return NULL;
    if (UNLIKELY(total - 1 >= d->view.small_bytes) || UNLIKELY(!is_owner))
        return calloc_slowly(d, count, bytes);
    void *block = malloc_quickly(d, heap_sc_of_small(&d->view, total), total);
    return LIKELY(block != NULL) ? memset(block, 0, total) : calloc_slowly(d, count, bytes);
}

static void *hook_calloc(void *context, size_t count, size_t bytes)
{
    return calloc_by(context, count, bytes, owner_is_caller_quickly(&owner));
}

static void *hook_calloc_by_owner(void *context, size_t count, size_t bytes)
{
    return calloc_by(context, count, bytes, true);
}

/* The heap did not take the block: it is another allocator's, or the caller is wrong. */
static NOINLINE void free_elsewhere(domain *d, void *block, slabmalloc_status status)
{
    if (heap_owns(the_heap->space, block))
        stop_process(the_heap->space, "free", status, block, d->name);
    d->previous.free(d->previous.context, block);
}

static NOINLINE void free_by_another(domain *d, void *block)
{
    slabmalloc_status status = heap_free_remote(the_heap->space, block);
    if (status != SLABMALLOC_OK)
        free_elsewhere(d, block, status);
    else
        atomic_fetch_add_explicit(&d->remote_frees, 1, memory_order_relaxed);
}

static NOINLINE void free_slowly(domain *d, void *block)
{
    if (block == NULL)
        return;
    if (!owner_is_caller(&owner)) {
        free_by_another(d, block);
        return;
    }
    slabmalloc_status status = heap_free(the_heap, block);
    if (status == SLABMALLOC_OK)
        d->counters.freed_blocks++;
    else
        free_elsewhere(d, block, status);
}

/* It has been counted, and is no quick one. */
static NOINLINE void free_otherwise(domain *d, void *block)
{
    d->counters.freed_blocks--;
    free_slowly(d, block);
}

ALWAYS_INLINE void free_by(domain *d, void *block, bool is_owner)
{
    slab *s = LIKELY(is_owner) ? heap_own_slab(&d->view, (uintptr_t)block) : NULL;
    if (UNLIKELY(s == NULL)) {
        free_slowly(d, block);
        return;
    }
    d->counters.freed_blocks++;
    if (UNLIKELY(!heap_free_quickly(s, (uintptr_t)block, false)))
        free_otherwise(d, block);
}

static void hook_free(void *context, void *block) { free_by(context, block, owner_is_caller_quickly(&owner)); }

static void hook_free_by_owner(void *context, void *block) { free_by(context, block, true); }

/* The heap has no such live block: it is another allocator's, or the caller is wrong. */
static NOINLINE void *realloc_elsewhere(domain *d, void *block, size_t bytes, slabmalloc_status status)
{
    if (heap_owns(the_heap->space, block))
        stop_process(the_heap->space, "realloc", status, block, d->name);
    /* Its size is its maker's secret: it can't be moved here. */
    bool was_passing = thread_passes(true);
    void *resized = d->previous.realloc(d->previous.context, block, bytes);
    thread_passes(was_passing);
    return resized;
}

/* A block that another interpreter's thread resizes: its heap is not the caller's to allocate from. */
static NOINLINE void *realloc_by_another(domain *d, void *block, size_t bytes)
{
    size_t usable = heap_usable_bytes(the_heap->space, block);
    if (usable == 0 && !heap_is_nothing(the_heap->space, block))
        return realloc_elsewhere(d, block, bytes, SLABMALLOC_FREE_FOREIGN);
    if (heap_fits(usable, bytes))
        return block;
    void *moved = pass_malloc(d, bytes);
    if (moved == NULL)
        return bytes <= usable ? heap_left_roomy(the_heap->space, block) : NULL; /* to shrink never fails */
    memcpy(moved, block, bytes < usable ? bytes : usable);
    free_by_another(d, block);
    return moved;
}

static NOINLINE void *resize(domain *d, void *block, size_t bytes, bool is_owner)
{
    if (UNLIKELY(!is_owner) && !owner_is_caller(&owner))
        return realloc_by_another(d, block, bytes);
    slabmalloc_status status;
    void *resized = heap_reallocate(the_heap, block, bytes, &status);
    if (UNLIKELY(status != SLABMALLOC_OK))
        return realloc_elsewhere(d, block, bytes, status);
    if (resized == block) {
        d->counters.resized_blocks++;
    } else if (resized != NULL) {
        d->counters.freed_blocks++;
        count_served(d, resized, bytes);
    }
    return resized;
}

ALWAYS_INLINE void *realloc_by(domain *d, void *block, size_t bytes, bool is_owner)
{
    return block == NULL ? malloc_by(d, bytes, is_owner) : resize(d, block, bytes, is_owner);
}

static void *hook_realloc(void *context, void *block, size_t bytes)
{
    return realloc_by(context, block, bytes, owner_is_caller_quickly(&owner));
}

static void *hook_realloc_by_owner(void *context, void *block, size_t bytes)
{
    return realloc_by(context, block, bytes, true);
}

/* ---- installation --------------------------------------------------------------------------------------------- */

static const char *lasting_refusal;

static void prepare(void)
{
    lasting_refusal = python_allocator_find() ? owner_check_prepare(&owner) : "this process is no CPython";
}

static void prepare_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare);
}

const char *pymem_refusal_here(void)
{
    prepare_once();
    if (owner_is_in_main())
        return NULL;
    return "this is a sub-interpreter, where nothing can be installed: call slabmalloc.install() in the main "
           "interpreter, before others are made, or start the program with slabmalloc run";
}

const char *pymem_refusal(void)
{
    prepare_once();
    if (lasting_refusal != NULL)
        return lasting_refusal;
    /* Other interpreters' threads read the allocators without a lock, so these must not change under them. */
    if (owner_others_exist())
        return "obj and mem can't be installed while there are sub-interpreters: call slabmalloc.install() before "
               "others are made, or start the program with slabmalloc run";
    return NULL;
}

static void install(pymem_domain which)
{
    domain *d = &domains[which];
    d->view = the_heap->view;
    python_allocator_get(python_domains[which], &d->previous);
    python_allocator hooks = {
        .context = d, .malloc = hook_malloc, .calloc = hook_calloc, .realloc = hook_realloc, .free = hook_free};
    if (owner.is_certain) {
        hooks.malloc = hook_malloc_by_owner;
        hooks.calloc = hook_calloc_by_owner;
        hooks.realloc = hook_realloc_by_owner;
        hooks.free = hook_free_by_owner;
    }
    python_allocator_set(python_domains[which], &hooks);
    d->is_installed = true;
}

const char *pymem_install(unsigned mask, space *(*get_space)(void))
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
    space *s = the_heap != NULL ? the_heap->space : get_space();
    if (the_heap == NULL && s != NULL)
        the_heap = heap_open(s, NULL);
    if (the_heap == NULL)
        return "the system grants no address space for the heap (see ulimit -v)";
    heap_keep_order(the_heap);
    for (pymem_domain which = PYMEM_OBJ; which < PYMEM_DOMAINS; which++)
        if ((wanted >> which & 1) != 0)
            install(which);
    return NULL;
}

bool pymem_is_installed(pymem_domain domain) { return domains[domain].is_installed; }

pymem_counters pymem_count(pymem_domain domain)
{
    struct domain *d = &domains[domain];
    /* The owner may be at work meanwhile, if another interpreter's thread asks. */
    uint64_t ticks = __atomic_load_n(&d->ticks, __ATOMIC_RELAXED);
    uint32_t until_tick = __atomic_load_n(&d->until_tick, __ATOMIC_RELAXED);
    uint64_t freed_blocks = __atomic_load_n(&d->counters.freed_blocks, __ATOMIC_RELAXED);
    return (pymem_counters){
        .served_blocks = (ticks + 1) * HEAP_CALLS_PER_TICK - until_tick,
        .freed_blocks = freed_blocks + atomic_load_explicit(&d->remote_frees, memory_order_relaxed),
        .served_bytes = __atomic_load_n(&d->counters.served_bytes, __ATOMIC_RELAXED),
        .resized_blocks = __atomic_load_n(&d->counters.resized_blocks, __ATOMIC_RELAXED),
        .passed_blocks = atomic_load_explicit(&d->passed_blocks, memory_order_relaxed),
        .passed_bytes = atomic_load_explicit(&d->passed_bytes, memory_order_relaxed),
    };
}

heap *pymem_heap(void) { return the_heap; }

heap *pymem_own_heap(void) { return the_heap != NULL && owner_is_caller(&owner) ? the_heap : NULL; }
