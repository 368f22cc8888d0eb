/* SPDX-License-Identifier: MIT
 *
 * The wrapper form: a space of the extension's own, for CPython's domains and NumPy's data (npymem.h), floor 4.
 */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include <dlfcn.h>

#include "process.h"
#include "threads.h"

static const char *install(unsigned mask)
{
    threads_watch_forks();
    return process_install(mask, false);
}

static const slabmalloc_process in_process = {
    .table_bytes = sizeof(slabmalloc_process),
    .form = "in process",
    .refusal = process_refusal,
    .install = install,
    .count = process_count,
    .get_space = process_space_if_any,
    .trim = process_trim,
    .audit = process_audit,
};

const slabmalloc_process *process_find(void)
{
    const slabmalloc_process *preloaded = dlsym(RTLD_DEFAULT, SLABMALLOC_PROCESS_SYMBOL);
    return preloaded != NULL && preloaded->table_bytes == sizeof(slabmalloc_process) ? preloaded : &in_process;
}
