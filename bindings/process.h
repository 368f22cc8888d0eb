/* SPDX-License-Identifier: MIT
 *
 * What serves this process, as a table of functions, floor 4: the extension has one for the wrapper form
 * (in_process.c), the preload library exports one (preload/process.c), and the extension prefers that one where it
 * finds it.
 */
#ifndef SLABMALLOC_BINDINGS_PROCESS_H
#define SLABMALLOC_BINDINGS_PROCESS_H

#include "pymem.h"

typedef struct slabmalloc_process {
    size_t table_bytes; /* sizeof(slabmalloc_process): another version's table is not used */
    const char *form;   /* "preload" or "in process" */
    /* As in pymem.h. */
    const char *(*refusal)(void);
    const char *(*install)(unsigned mask);
    bool (*is_installed)(pymem_domain domain);
    pymem_counters (*count)(pymem_domain domain);
    /* Of malloc and its kin; false: it is not served. [any thread] */
    bool (*count_malloc)(pymem_counters *counters);
    /* NULL: nothing has been served yet. */
    space *(*get_space)(void);
    /* Gives back what the caller may, the heap of CPython's domains and the thread's own; bytes. [main interpreter's
     * lock held] */
    size_t (*trim)(void);
    /* As heap_audit, for the same heaps. */
    const char *(*audit)(void);
} slabmalloc_process;

#define SLABMALLOC_PROCESS_SYMBOL "slabmalloc_process_table"

/* The table of the preload library, else the wrapper form's. */
const slabmalloc_process *process_find(void);

#endif
