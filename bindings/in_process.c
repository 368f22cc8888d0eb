/* SPDX-License-Identifier: MIT
 *
 * The wrapper form: a space of the extension's own, for CPython's `obj` and `mem` domains alone, floor 4.
 */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include <dlfcn.h>

#include "options.h"
#include "process.h"

static space *own_space(void)
{
    static space *s;
    space_options options = options_from_environment();
    if (s == NULL)
        s = space_create(&options);
    return s;
}

static const char *install(unsigned mask) { return pymem_install(mask, own_space); }

static bool count_malloc(pymem_counters *counters)
{
    (void)counters;
    return false;
}

static space *get_space(void) { return pymem_heap() == NULL ? NULL : pymem_heap()->space; }

static size_t trim(void) { return pymem_heap() == NULL ? 0 : heap_trim(pymem_heap()); }

static const char *audit(void) { return pymem_heap() == NULL ? NULL : heap_audit(pymem_heap()); }

static const slabmalloc_process in_process = {
    .table_bytes = sizeof(slabmalloc_process),
    .form = "in process",
    .refusal = pymem_refusal,
    .install = install,
    .is_installed = pymem_is_installed,
    .count = pymem_count,
    .count_malloc = count_malloc,
    .get_space = get_space,
    .trim = trim,
    .audit = audit,
};

const slabmalloc_process *process_find(void)
{
    const slabmalloc_process *preloaded = dlsym(RTLD_DEFAULT, SLABMALLOC_PROCESS_SYMBOL);
    return preloaded != NULL && preloaded->table_bytes == sizeof(slabmalloc_process) ? preloaded : &in_process;
}
