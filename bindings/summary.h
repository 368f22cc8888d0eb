/* SPDX-License-Identifier: MIT
 *
 * What slabmalloc did for a process, as text for people or as JSON, floor 4: written by the process itself at its end,
 * when there may be no interpreter any more. Nothing here allocates.
 */
#ifndef SLABMALLOC_BINDINGS_SUMMARY_H
#define SLABMALLOC_BINDINGS_SUMMARY_H

#include "process.h"

enum { SUMMARY_BYTES = 64 * 1024 };

/* Into `text`, of SUMMARY_BYTES; its length. */
size_t summary_render(char *text, const slabmalloc_process *process, double wall_seconds, bool as_json);

#endif
