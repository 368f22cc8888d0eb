/* SPDX-License-Identifier: MIT
 *
 * NumPy's default handler, its functions replaced by ours: see npymem.h. No header of NumPy is compiled in: the handler
 * is laid out as NEP 49 says, its place is told by NumPy's table of functions, and whatever looks different is refused.
 */
#include "npymem.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "slab/pager.h"
#include "thread_domain.h"
#include "threads.h"

/* PyDataMemAllocator. The size that `free` is given can't be trusted. */
typedef struct data_allocator {
    void *context;
    void *(*malloc)(void *context, size_t bytes);
    void *(*calloc)(void *context, size_t count, size_t bytes);
    void *(*realloc)(void *context, void *block, size_t bytes);
    void (*free)(void *context, void *block, size_t bytes);
} data_allocator;

/* PyDataMem_Handler */
typedef struct data_handler {
    char name[127];
    uint8_t version;
    data_allocator allocator;
} data_handler;

_Static_assert(offsetof(data_handler, version) == 127 && offsetof(data_handler, allocator) == 128, "as NEP 49 has it");

/* NumPy's table of functions: what stands where, and the versions of which that is known. */
enum { API_ABI_VERSION = 0, API_FEATURE_VERSION = 211, API_DEFAULT_HANDLER = 306 };
enum { ABI_OF_1 = 0x01000009, ABI_OF_2 = 0x02000000, FEATURES_OF_1_22 = 15 };

/* From here on NumPy advises huge pages, if its setting says so. */
#define HUGE_FROM_BYTES ((size_t)4 << 20)
/* What does not come from the cache that NumPy has in front of its allocator. */
enum { UNCACHED_BYTES = 2000 };

static data_allocator previous;
/* _get_madvise_hugepage() or, where NumPy has none, _set_madvise_hugepage(True), which tells what was set before. */
static PyObject *advice_getter, *advice_setter;

/* ---- advice for huge pages ------------------------------------------------------------------------------------ */

/* By the functions' pointers: an exception may be on its way through here. */
static bool ask(PyObject *function, PyObject *argument)
{
    PyObject *answer = PyCFunction_GetFunction(function)(PyCFunction_GetSelf(function), argument);
    bool is_true = answer == Py_True;
    Py_XDECREF(answer);
    return is_true;
}

static bool is_advice_wanted(void)
{
    if (advice_getter != NULL)
        return ask(advice_getter, NULL);
    bool is_wanted = advice_setter != NULL && ask(advice_setter, Py_True);
    if (advice_setter != NULL && !is_wanted)
        ask(advice_setter, Py_False);
    return is_wanted;
}

/* All of the block, where NumPy leaves its first OS page out: so it stays one mapping, which the system can move. */
static void *advised(void *block, size_t bytes)
{
    if (UNLIKELY(bytes >= HUGE_FROM_BYTES) && block != NULL && is_advice_wanted())
        slabmalloc_os_advise_huge(block, heap_usable_bytes(process_space_if_any(), block));
    return block;
}

/* ---- a cache of small blocks ---------------------------------------------------------------------------------- */

/* As NumPy has one in front of its allocator, by the sizes that blocks are freed with, and as large: a small array
 * costs what it costs on stock, a tenth less than without. To the heap these blocks are live; counts do not see them
 * come and go. Unlike NumPy's it takes a block only if a free of it would be right, and its slot is as large as is
 * said. [interpreter lock: not in free-threaded builds, where NumPy has none either] */
enum { CACHED_BYTES = 1024, CACHED_BLOCKS = 7 };

#ifndef Py_GIL_DISABLED
typedef struct cache_bucket {
    size_t count;
    void *blocks[CACHED_BLOCKS];
} cache_bucket;

static cache_bucket cache[CACHED_BYTES];

ALWAYS_INLINE void *cache_take(size_t bytes)
{
    if (bytes >= CACHED_BYTES || cache[bytes].count == 0)
        return NULL;
    return cache[bytes].blocks[--cache[bytes].count];
}

/* Is it a block of the heap with at least `bytes`, and live? Blocks of further ranges are left alone. */
ALWAYS_INLINE bool is_live(const heap_view *view, uintptr_t object, size_t bytes)
{
    const slab *s = heap_first_slab(view, object);
    return s != NULL && !heap_slab_is_nothing(s) && s->sc->geometry.object_bytes >= bytes && heap_is_live_in(s, object);
}

ALWAYS_INLINE bool cache_give(void *block, size_t bytes)
{
    if (bytes >= CACHED_BYTES || cache[bytes].count == CACHED_BLOCKS ||
        !is_live(&thread_heap->view, (uintptr_t)block, bytes))
        return false;
    cache_bucket *bucket = &cache[bytes];
    for (size_t i = 0; i < bucket->count; i++)
        if (UNLIKELY(bucket->blocks[i] == block)) /* freed twice: the heap gets it twice, and says so */
            return thread_domain_free(THREAD_NUMPY, block), false;
    bucket->blocks[bucket->count++] = block;
    return true;
}
#else
static void *cache_take(size_t bytes) { return (void)bytes, NULL; }
static bool cache_give(void *block, size_t bytes) { return (void)block, (void)bytes, false; }
#endif

/* ---- the functions of the handler ----------------------------------------------------------------------------- */

static NOINLINE void *malloc_slowly(size_t bytes)
{
    void *block = advised(thread_domain_allocate(THREAD_NUMPY, bytes), bytes);
    if (block != NULL)
        return block;
    block = previous.malloc(previous.context, bytes);
    if (block != NULL)
        thread_domain_count_passed(THREAD_NUMPY, bytes);
    return block;
}

static void *data_malloc(void *context, size_t bytes)
{
    (void)context;
    void *block = cache_take(bytes);
    return block != NULL ? block : thread_domain_allocate_quickly(THREAD_NUMPY, bytes, malloc_slowly);
}

/* To clear a large block takes a while: NumPy lets other threads run then, and so do we. */
static void *data_calloc(void *context, size_t count, size_t bytes)
{
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total))
        return NULL;
    if (total < CACHED_BYTES) {
        void *small = data_malloc(context, total);
        return small == NULL ? NULL : memset(small, 0, total);
    }
    PyThreadState *state = total > HEAP_MEDIUM_BYTES ? PyEval_SaveThread() : NULL;
    void *block = thread_domain_allocate_zeroed(THREAD_NUMPY, total);
    if (state != NULL)
        PyEval_RestoreThread(state);
    if (block != NULL)
        return advised(block, total);
    block = previous.calloc(previous.context, count, bytes);
    if (block != NULL)
        thread_domain_count_passed(THREAD_NUMPY, total);
    return block;
}

static NOINLINE void free_slowly(void *block, size_t bytes)
{
    if (!thread_domain_free(THREAD_NUMPY, block))
        previous.free(previous.context, block, bytes);
}

static void data_free(void *context, void *block, size_t bytes)
{
    (void)context;
    if (!cache_give(block, bytes) && UNLIKELY(!thread_domain_free_quickly(THREAD_NUMPY, block)))
        free_slowly(block, bytes);
}

static void *data_realloc(void *context, void *block, size_t bytes)
{
    if (block == NULL)
        return data_malloc(context, bytes);
    bool is_foreign;
    void *resized = thread_domain_resize(THREAD_NUMPY, block, bytes, &is_foreign);
    return is_foreign ? previous.realloc(previous.context, block, bytes) : resized;
}

/* ---- installation --------------------------------------------------------------------------------------------- */

static bool has_known_layout(void *const *api)
{
    unsigned (*abi_version)(void), (*feature_version)(void);
    memcpy(&abi_version, &api[API_ABI_VERSION], sizeof(abi_version));
    memcpy(&feature_version, &api[API_FEATURE_VERSION], sizeof(feature_version));
    unsigned abi = abi_version();
    return (abi == ABI_OF_1 || abi == ABI_OF_2) && feature_version() >= FEATURES_OF_1_22;
}

static data_handler *handler_in(void *const *api)
{
    PyObject *const *capsule = api[API_DEFAULT_HANDLER];
    if (capsule == NULL || *capsule == NULL || !PyCapsule_IsValid(*capsule, "mem_handler"))
        return NULL;
    data_handler *handler = PyCapsule_GetPointer(*capsule, "mem_handler");
    const data_allocator *a = &handler->allocator;
    bool is_known = strncmp(handler->name, "default_allocator", sizeof(handler->name)) == 0 && handler->version == 1 &&
                    a->malloc != NULL && a->calloc != NULL && a->realloc != NULL && a->free != NULL;
    return is_known ? handler : NULL;
}

/* NULL, or why the handler is not to be found, or not to be trusted. */
static const char *find_handler(PyObject *module, data_handler **handler)
{
    PyObject *table = PyObject_GetAttrString(module, "_ARRAY_API");
    void *const *api = table != NULL && PyCapsule_IsValid(table, NULL) ? PyCapsule_GetPointer(table, NULL) : NULL;
    Py_XDECREF(table); /* the module keeps it */
    PyErr_Clear();
    if (api == NULL)
        return "this NumPy shows no table of its C functions";
    if (!has_known_layout(api))
        return "this NumPy is of another kind than those from 1.22 to 2";
    *handler = handler_in(api);
    return *handler != NULL ? NULL : "this NumPy's default handler of data is not the one that NEP 49 describes";
}

/* Does NumPy take its data from `raw`, and that from the heap? */
static bool is_served_by_raw(const data_allocator *a)
{
    pymem_counters counters;
    if (!thread_domain_count(THREAD_RAW, &counters))
        return false;
    void *block = a->malloc(a->context, UNCACHED_BYTES);
    bool is_ours = block != NULL && heap_owns(process_space_if_any(), block);
    if (block != NULL)
        a->free(a->context, block, UNCACHED_BYTES);
    return is_ours;
}

/* NULL: there is none that takes its arguments so. */
static PyObject *function_of(PyObject *module, const char *name, int arguments)
{
    PyObject *function = PyObject_GetAttrString(module, name);
    PyErr_Clear();
    if (function != NULL && PyCFunction_CheckExact(function) && PyCFunction_GetFlags(function) == arguments)
        return function;
    Py_XDECREF(function);
    return NULL;
}

/* The functions that take our blocks back come before those that make them: other threads may not wait for us. */
static void replace_functions(data_allocator *a)
{
    __atomic_store_n(&a->free, data_free, __ATOMIC_RELEASE);
    __atomic_store_n(&a->realloc, data_realloc, __ATOMIC_RELEASE);
    __atomic_store_n(&a->calloc, data_calloc, __ATOMIC_RELEASE);
    __atomic_store_n(&a->malloc, data_malloc, __ATOMIC_RELEASE);
}

const char *npymem_refusal(PyObject *module)
{
    data_handler *handler;
    return find_handler(module, &handler);
}

static const char *install(PyObject *module, data_allocator *a)
{
    static bool is_installed;
    if (is_installed || is_served_by_raw(a))
        return NULL;
    /* Data that is written, so this changes nothing; unless somebody's linker has thought otherwise. */
    uintptr_t begin = (uintptr_t)a & ~(os_page_bytes() - 1);
    if (mprotect((void *)begin, (uintptr_t)(a + 1) - begin, PROT_READ | PROT_WRITE) != 0)
        return "this NumPy's default handler of data can't be written to";
    previous = *a;
    advice_getter = function_of(module, "_get_madvise_hugepage", METH_NOARGS);
    advice_setter = function_of(module, "_set_madvise_hugepage", METH_O);
    thread_domain_begin(THREAD_NUMPY);
    replace_functions(a);
    is_installed = true;
    return NULL;
}

const char *npymem_install(PyObject *module)
{
    static atomic_flag is_busy = ATOMIC_FLAG_INIT; /* as in process.c */
    data_handler *handler;
    const char *refusal = find_handler(module, &handler);
    if (refusal != NULL)
        return refusal;
    threads_watch_forks();
    if (process_space() == NULL)
        return "the system grants no address space for the heap (see ulimit -v)";
    if (atomic_flag_test_and_set(&is_busy))
        return "another thread is installing slabmalloc";
    refusal = install(module, &handler->allocator);
    atomic_flag_clear(&is_busy);
    return refusal;
}
