/* SPDX-License-Identifier: MIT
 *
 * Who serves a domain at this moment, floor 4: found out by asking for blocks as its callers do, and counting whose
 * they are. What was installed once may have been replaced since, by CPython's own start (PYTHONMALLOC) for one; and a
 * name may be another library's.
 */
#ifndef SLABMALLOC_BINDINGS_PROBE_H
#define SLABMALLOC_BINDINGS_PROBE_H

#include "process.h"

/* Which of our domains serves what `asked` (one of CPython's, or malloc) is asked for: as a rule itself, or one below
 * it; PROCESS_DOMAINS: none does. Other threads' blocks may be taken for these. [an interpreter's lock held] */
process_domain probe_server(const slabmalloc_process *process, process_domain asked);

/* The file that has the name `malloc` before all others, a library or the program; "?": not to be told. */
const char *probe_malloc_file(void);

#endif
