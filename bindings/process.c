/* SPDX-License-Identifier: MIT
 *
 * What the two forms have in common: see process.h.
 */
#include "process.h"

#include <stdatomic.h>

#include "python_allocator.h"
#include "rawmem.h"
#include "thread_domain.h"

const char *const process_domain_names[PROCESS_DOMAINS] = {
    [DOMAIN_OBJ] = "obj",     [DOMAIN_MEM] = "mem",       [DOMAIN_RAW] = "raw",
    [DOMAIN_NUMPY] = "numpy", [DOMAIN_MALLOC] = "malloc",
};

const char *process_refusal(process_domain domain)
{
    const char *refusal = pymem_refusal_here();
    if (refusal != NULL)
        return refusal;
    return domain == DOMAIN_RAW ? rawmem_refusal() : domain <= DOMAIN_MEM ? pymem_refusal() : NULL;
}

/* Debug hooks hand a block of the domain below on with words of their own before it. If that block is ours, theirs
 * begins inside it, and a free of it would be an invalid one. */
static const char *refusal_of_layers(unsigned mask)
{
    static const python_domain domains[] = {
        [DOMAIN_OBJ] = PYTHON_OBJ, [DOMAIN_MEM] = PYTHON_MEM, [DOMAIN_RAW] = PYTHON_RAW};
    for (process_domain domain = DOMAIN_OBJ; domain <= DOMAIN_RAW; domain++) {
        python_allocator allocator;
        python_allocator_get(domains[domain], &allocator);
        if ((mask >> domain & 1) != 0 && allocator.context != NULL)
            return "debug hooks (PYTHONMALLOC, -X dev) are above what slabmalloc serves already: obj and mem come "
                   "before raw, or with it, and all of them before malloc";
    }
    return NULL;
}

static const char *refusal_of(unsigned objects, unsigned raw, bool has_malloc)
{
    pymem_counters counters;
    const char *refusal = pymem_refusal_here();
    if (refusal == NULL && raw != 0)
        refusal = rawmem_refusal();
    if (refusal == NULL && objects != 0)
        refusal = pymem_refusal();
    if (refusal == NULL && has_malloc)
        refusal = refusal_of_layers(objects | raw);
    else if (refusal == NULL && thread_domain_count(THREAD_RAW, &counters))
        refusal = refusal_of_layers(objects);
    return refusal;
}

static const char *install(unsigned mask, bool has_malloc)
{
    unsigned objects = 0, raw = 0;
    pymem_counters counters;
    for (process_domain domain = DOMAIN_OBJ; domain <= DOMAIN_RAW; domain++)
        if ((mask >> domain & 1) != 0 && !process_count(domain, &counters))
            *(domain == DOMAIN_RAW ? &raw : &objects) |= 1u << domain;
    const char *refusal = (objects | raw) == 0 ? NULL : refusal_of(objects, raw, has_malloc);
    if (refusal == NULL)
        refusal = pymem_install(objects, process_space);
    return refusal == NULL && raw != 0 ? rawmem_install() : refusal;
}

const char *process_install(unsigned mask, bool has_malloc)
{
    /* The interpreter lock would keep others out; free-threaded builds have none. Nobody waits here: the collector
     * stops threads at places of their own choice alone. */
    static atomic_flag is_busy = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&is_busy))
        return "another thread is installing slabmalloc";
    const char *refusal = install(mask, has_malloc);
    atomic_flag_clear(&is_busy);
    return refusal;
}

bool process_count(process_domain domain, pymem_counters *counters)
{
    switch (domain) {
    case DOMAIN_OBJ:
    case DOMAIN_MEM: *counters = pymem_count((pymem_domain)domain); return pymem_is_installed((pymem_domain)domain);
    case DOMAIN_RAW: return thread_domain_count(THREAD_RAW, counters);
    case DOMAIN_NUMPY: return thread_domain_count(THREAD_NUMPY, counters);
    case DOMAIN_MALLOC: return thread_domain_count(THREAD_MALLOC, counters);
    default: return false;
    }
}

size_t process_trim(void)
{
    heap *h = pymem_own_heap();
    size_t bytes = h == NULL ? 0 : heap_trim(h);
    return thread_heap_if_any() == NULL ? bytes : bytes + heap_trim(thread_heap);
}

const char *process_audit(void)
{
    heap *h = pymem_own_heap();
    const char *fault = h == NULL ? NULL : heap_audit(h);
    return fault != NULL || thread_heap_if_any() == NULL ? fault : heap_audit(thread_heap);
}
