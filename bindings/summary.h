/* SPDX-License-Identifier: MIT
 *
 * What slabmalloc did for a process, as text for people or as JSON, floor 4: written by the process itself at its end,
 * when there may be no interpreter any more. Nothing here allocates.
 */
#ifndef SLABMALLOC_BINDINGS_SUMMARY_H
#define SLABMALLOC_BINDINGS_SUMMARY_H

#include "process.h"
#include "resident.h"

enum { SUMMARY_BYTES = 64 * 1024 };

/* What there is to tell of a process. */
typedef struct summary_figures {
    pymem_counters domains[PROCESS_DOMAINS];
    bool is_served[PROCESS_DOMAINS];
    space_stats space;
    resident_memory resident;
} summary_figures;

/* Into `text`, of SUMMARY_BYTES; its length. */
size_t summary_render(char *text, const slabmalloc_process *process, double wall_seconds, bool as_json);
/* The tables of the text alone. */
size_t summary_render_tables(char *text, const summary_figures *figures);

#endif
