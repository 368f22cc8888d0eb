/* SPDX-License-Identifier: MIT
 *
 * The hooks behind CPython's `raw` domain. Nothing of Python is called here: the caller may have no interpreter.
 */
#include "rawmem.h"

#include "python_allocator.h"
#include "thread_domain.h"

static python_allocator previous;

/* ---- the hooks: what is rare is called at their end, so that they have no frame --------------------------------- */

static NOINLINE void *malloc_slowly(size_t bytes)
{
    void *block = thread_is_passing ? NULL : thread_domain_allocate(THREAD_RAW, bytes);
    if (block != NULL)
        return block;
    block = previous.malloc(previous.context, bytes);
    if (block != NULL)
        thread_domain_count_passed(THREAD_RAW, bytes);
    return block;
}

static void *hook_malloc(void *context, size_t bytes)
{
    (void)context;
    return UNLIKELY(thread_is_passing) ? malloc_slowly(bytes)
                                       : thread_domain_allocate_quickly(THREAD_RAW, bytes, malloc_slowly);
}

static void *hook_calloc(void *context, size_t count, size_t bytes)
{
    (void)context;
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total))
        return NULL;
    void *block = thread_is_passing ? NULL : thread_domain_allocate_zeroed(THREAD_RAW, total);
    if (block != NULL)
        return block;
    block = previous.calloc(previous.context, count, bytes);
    if (block != NULL)
        thread_domain_count_passed(THREAD_RAW, total);
    return block;
}

static NOINLINE void free_slowly(void *block)
{
    if (!thread_domain_free(THREAD_RAW, block))
        previous.free(previous.context, block);
}

static void hook_free(void *context, void *block)
{
    (void)context;
    if (UNLIKELY(!thread_domain_free_quickly(THREAD_RAW, block)))
        free_slowly(block);
}

static void *hook_realloc(void *context, void *block, size_t bytes)
{
    if (block == NULL)
        return hook_malloc(context, bytes);
    bool is_foreign;
    void *resized = thread_domain_resize(THREAD_RAW, block, bytes, &is_foreign);
    /* Another allocator's block: its size is its maker's secret, so it can't be moved here. */
    return is_foreign ? previous.realloc(previous.context, block, bytes) : resized;
}

/* ---- installation --------------------------------------------------------------------------------------------- */

const char *rawmem_refusal(void) { return python_allocator_find() ? NULL : "this process is no CPython"; }

const char *rawmem_install(void)
{
    const char *refusal = rawmem_refusal();
    if (refusal != NULL)
        return refusal;
    if (process_space() == NULL)
        return "the system grants no address space for the heap (see ulimit -v)";
    python_allocator_get(PYTHON_RAW, &previous);
    /* Threads without the interpreter lock may be at the domain meanwhile. So the context stays what it was, which
     * these hooks ignore; and who gives our blocks back comes before who makes them. */
    python_allocator hooks = previous;
    hooks.realloc = hook_realloc;
    hooks.free = hook_free;
    python_allocator_set(PYTHON_RAW, &hooks);
    hooks.malloc = hook_malloc;
    hooks.calloc = hook_calloc;
    python_allocator_set(PYTHON_RAW, &hooks);
    thread_domain_begin(THREAD_RAW);
    return NULL;
}
