/* SPDX-License-Identifier: MIT
 *
 * Physical memory of this process by the kernel's account, floor 4.
 */
#ifndef SLABMALLOC_BINDINGS_RESIDENT_H
#define SLABMALLOC_BINDINGS_RESIDENT_H

#include <stddef.h>

typedef struct resident_memory {
    size_t bytes;      /* PSS; 0: the kernel does not say */
    size_t huge_bytes; /* in transparent huge pages */
} resident_memory;

/* From /proc/self/smaps_rollup. The kernel walks the page tables for it, some 12 ms for each GiB that is resident. [any
 * thread] */
resident_memory resident_read(void);

#endif
