/* SPDX-License-Identifier: MIT
 *
 * The size classes of the process heap, floor 3: what a set of them is, and how a user writes one.
 *
 * Of each set: ascending multiples of 16 from 16 or more up to 128 KiB, which is the last; at most HEAP_CLASSES. So
 * every size up to 128 KiB has a class, whatever the set, and no slab has more slots than with the default.
 */
#ifndef SLABMALLOC_HEAP_CLASSES_H
#define SLABMALLOC_HEAP_CLASSES_H

#include "slabmalloc.h"

#define HEAP_ALIGN_BYTES 16                    /* of every object */
#define HEAP_SMALL_BYTES ((size_t)8 * 1024)    /* the largest small object */
#define HEAP_MEDIUM_BYTES ((size_t)128 * 1024) /* the largest medium object */

enum { HEAP_CLASSES = 128 };

/* Those of slabmalloc_size_classes_default that are multiples of 16. */
slabmalloc_size_classes heap_classes_default(void);
bool heap_classes_are_valid(const slabmalloc_size_classes *classes);

/* Why a text is no set: the word of it that is at fault, and what about it. */
typedef struct heap_classes_fault {
    const char *word;
    size_t word_bytes;
    const char *what;
} heap_classes_fault;

/* One of
 *     default
 *     powers-of-two        16, 32, 64 ...
 *     geometric:N          N steps per doubling, rounded up to multiples of 16
 *     16,48,112            sizes in bytes, ascending multiples of 16; above the last one those of the default follow
 * Nothing is allocated. False: *fault says why, and *classes is as it was. */
bool heap_classes_read(const char *text, slabmalloc_size_classes *classes, heap_classes_fault *fault);

#endif
