/* SPDX-License-Identifier: MIT
 *
 * What serves this process, as a table of functions, floor 4: the extension has one for the wrapper form
 * (in_process.c), the preload library exports one (preload/process.c), and the extension prefers that one where it
 * finds it. What both forms do alike is in process.c.
 */
#ifndef SLABMALLOC_BINDINGS_PROCESS_H
#define SLABMALLOC_BINDINGS_PROCESS_H

#include "pymem.h"

/* Who asks for blocks. NumPy's data is a domain of its own in the wrapper form, malloc in the preload library. */
typedef enum process_domain {
    DOMAIN_OBJ = PYMEM_OBJ,
    DOMAIN_MEM = PYMEM_MEM,
    DOMAIN_RAW,
    DOMAIN_NUMPY,
    DOMAIN_MALLOC,
    PROCESS_DOMAINS
} process_domain;

extern const char *const process_domain_names[PROCESS_DOMAINS];

typedef struct slabmalloc_process {
    size_t table_bytes; /* sizeof(slabmalloc_process): another version's table is not used */
    const char *form;   /* "preload" or "in process" */
    /* Why a domain can't be installed here, as a sentence; NULL: nothing known. [interpreter's lock held] */
    const char *(*refusal)(process_domain domain);
    /* Installs CPython's domains of `mask` (bit 1 << process_domain); those that are installed stay so. NULL, or a
     * sentence that says why nothing was installed. [main interpreter's lock held] */
    const char *(*install)(unsigned mask);
    /* False: the domain is not served. [any thread; see pymem_count] */
    bool (*count)(process_domain domain, pymem_counters *counters);
    /* NULL: nothing has been served yet. */
    space *(*get_space)(void);
    /* Gives back what the caller may, the thread's own heap and in the main interpreter that of CPython's domains;
     * bytes. [an interpreter's lock held] */
    size_t (*trim)(void);
    /* As heap_audit, for the same heaps. */
    const char *(*audit)(void);
} slabmalloc_process;

#define SLABMALLOC_PROCESS_SYMBOL "slabmalloc_process_table"

/* The table of the preload library, else the wrapper form's. */
const slabmalloc_process *process_find(void);

/* The table's functions, as far as both forms have them in common. `has_malloc`: malloc has served blocks already. */
const char *process_refusal(process_domain domain);
const char *process_install(unsigned mask, bool has_malloc);
bool process_count(process_domain domain, pymem_counters *counters);
size_t process_trim(void);
const char *process_audit(void);

#endif
