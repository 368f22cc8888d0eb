/* SPDX-License-Identifier: MIT
 *
 * Options of the process allocator from the environment, floor 4: `slabmalloc run` sets them, and so may anyone.
 *     SLABMALLOC_DECAY_MS     memory goes back when it has rested so long; 0: at once
 *     SLABMALLOC_CACHE_BYTES  large objects that rest, or an eighth of what is live
 *     SLABMALLOC_RESERVE      bytes of address space to begin with
 *     SLABMALLOC_DOMAINS      which of CPython's domains are replaced
 *     SLABMALLOC_HUGE_PAGES   on: memory is put into huge pages, and goes back by whole ones
 *     SLABMALLOC_HARDENED     on: see heap/hardened.h
 *     SLABMALLOC_CLASSES      size classes, see heap/classes.h
 * Of a value that is none the default is taken, and a line on standard error says so.
 */
#ifndef SLABMALLOC_BINDINGS_OPTIONS_H
#define SLABMALLOC_BINDINGS_OPTIONS_H

#include "heap/space.h"

space_options options_from_environment(void);

/* Is the switch in the environment on? It is for whatever is no plain no, in capitals too: who sets it to `yes` wants
 * it. */
bool options_is_on(const char *name);

enum { OPTIONS_MESSAGE_BYTES = 320 };

/* False: `text` is no value of the variable, and `message` says why, with what is allowed. Domains are apart: which
 * there are depends on the form. */
bool options_is_valid(const char *name, const char *text, char message[OPTIONS_MESSAGE_BYTES]);

/* Into `mask` the domains, 1 << process_domain each, that `text` names, with commas between them and blanks as one
 * likes; where it names none, or is NULL, the default, all of them. False: as above. */
bool options_read_domains(const char *text, bool is_preload, unsigned *mask, char message[OPTIONS_MESSAGE_BYTES]);

/* Those of SLABMALLOC_DOMAINS for the preload library; `is_told`: what is wrong is. */
unsigned options_domains(bool is_told);

/* As heap_classes_read; what is wrong is a sentence in `message`, with all that is allowed. */
bool options_read_classes(const char *text, slabmalloc_size_classes *classes, char message[OPTIONS_MESSAGE_BYTES]);

#endif
