/* SPDX-License-Identifier: MIT
 *
 * What a hardened heap keeps back of each class, floor 3: the pools from which objects are served at random, and those
 * in quarantine, which leave it at random. The states that they are in: hardened.h; what a seal is: seal.h.
 */
#ifndef SLABMALLOC_HEAP_QUARANTINE_H
#define SLABMALLOC_HEAP_QUARANTINE_H

#include "heap/seal.h"

/* Objects up to here are looked at as a whole before they are served. */
enum { WHOLE_BYTES = 1024 };

/* A clean object of the class; 0: the system refuses. What was written to after its free is left alone for ever.
 * [owner] */
uintptr_t quarantine_take(heap *h, slabmalloc_sc *sc);
/* An object, sealed as freed, takes a place in quarantine, and what was there goes on its way. [owner] */
void quarantine_put(space *s, heap *h, slab *on, uintptr_t object);
/* From quarantined to clean, and to the slab that has it. `c`: where it was in quarantine, or NULL. `h`: the caller's
 * heap, or NULL. */
void quarantine_release(space *s, heap *h, slab *on, hardened_class *c, uintptr_t object);

#endif
