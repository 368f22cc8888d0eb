/* SPDX-License-Identifier: MIT
 *
 * The end of a process that frees what it must not, floor 4. An invalid free is memory corruption in the making, and
 * its caller, some C code, has no way to handle an error: so one line on standard error, and abort(). The line says
 * what was done, to which address and by which domain, what is there and in which state, and how to see more:
 *     SLABMALLOC_BACKTRACE=1     the C stack of the call, below the line
 *     PYTHONFAULTHANDLER=1       the Python stacks, by CPython's own means; where there is no CPython: a debugger
 */
#ifndef SLABMALLOC_BINDINGS_STOP_H
#define SLABMALLOC_BINDINGS_STOP_H

#include "heap/heap.h"

/* `call` ("free") by a caller of `domain` was given `address`, which is wrong as `status` says. The caller holds no
 * lock of the space. */
_Noreturn NOINLINE void stop_process(space *s, const char *call, slabmalloc_status status, const void *address,
                                     const char *domain);
/* The same for what was written to after its free (space_options.damaged). */
void stop_at_damage(space *s, const void *object);
/* The same for what two threads freed at the same moment (space_options.late_double_free). */
void stop_at_late_double_free(space *s, const void *object);

#endif
