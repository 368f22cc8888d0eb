/* SPDX-License-Identifier: MIT
 *
 * Assertions, floor 0. Errors of a caller are never assertions: they are statuses, always on. ASSERT states what the
 * core promises itself, and is there in checked builds (-DSLABMALLOC_CHECKED=1) alone.
 */
#ifndef SLABMALLOC_BASE_CHECK_H
#define SLABMALLOC_BASE_CHECK_H

#ifndef SLABMALLOC_CHECKED
#define SLABMALLOC_CHECKED 0
#endif

#if SLABMALLOC_CHECKED
#include <stdio.h>
#include <stdlib.h>
#define ASSERT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "slabmalloc: %s:%d: assertion failed: %s\n", __FILE__, __LINE__, #condition);              \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)
#else
#define ASSERT(condition) ((void)0)
#endif

#endif
