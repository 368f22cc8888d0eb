/* SPDX-License-Identifier: MIT
 *
 * Physical memory of this process by the kernel's account, floor 4.
 */
#ifndef SLABMALLOC_BINDINGS_RESIDENT_H
#define SLABMALLOC_BINDINGS_RESIDENT_H

#include <stddef.h>

/* The process's PSS, from /proc/self/smaps_rollup; 0: the kernel does not say. It walks the page tables for it, some
 * 12 ms for each GiB that is resident. [any thread] */
size_t resident_bytes(void);

#endif
