/* SPDX-License-Identifier: MIT
 *
 * Options of the process allocator from the environment, floor 4: `slabmalloc run` sets them, and so may anyone.
 *     SLABMALLOC_DECAY_MS     memory goes back when it has rested so long; 0: at once
 *     SLABMALLOC_CACHE_BYTES  large objects that rest, or an eighth of what is live
 *     SLABMALLOC_RESERVE      bytes of address space to begin with
 *     SLABMALLOC_HUGE_PAGES   not 0: memory is put into huge pages, and goes back by whole ones
 *     SLABMALLOC_HARDENED     not 0: see heap/hardened.h
 *     SLABMALLOC_CLASSES      size classes, see heap/classes.h; what is none is told in a line on standard error
 * A value that is no number is as if it were not there: the launcher has complained already.
 */
#ifndef SLABMALLOC_BINDINGS_OPTIONS_H
#define SLABMALLOC_BINDINGS_OPTIONS_H

#include "heap/space.h"

space_options options_from_environment(void);

/* Is the switch in the environment on? It is for whatever is no plain no: who sets it to `yes` wants it. */
bool options_is_on(const char *name);

enum { OPTIONS_MESSAGE_BYTES = 320 };

/* As heap_classes_read; what is wrong is a sentence in `message`, with all that is allowed. */
bool options_read_classes(const char *text, slabmalloc_size_classes *classes, char message[OPTIONS_MESSAGE_BYTES]);

#endif
