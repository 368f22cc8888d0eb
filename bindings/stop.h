/* SPDX-License-Identifier: MIT
 *
 * The end of a process that frees what it must not, floor 4. An invalid free is memory corruption in the making, and
 * its caller, some C code, has no way to handle an error: so one line on standard error, and abort().
 */
#ifndef SLABMALLOC_BINDINGS_STOP_H
#define SLABMALLOC_BINDINGS_STOP_H

#include "heap/heap.h"

/* `what` was done to `address` by a caller of `domain`. */
_Noreturn void stop_process(space *s, const char *what, const void *address, const char *domain);

/* The same for what was written to after its free (space_options.damaged). */
void stop_at_damage(space *s, const void *object);

static inline const char *stop_name_of(slabmalloc_status status)
{
    return status == SLABMALLOC_FREE_DOUBLE      ? "double free"
           : status == SLABMALLOC_FREE_OVERFLOWN ? "buffer overflow found at free"
                                                 : "invalid free";
}

#endif
