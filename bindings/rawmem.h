/* SPDX-License-Identifier: MIT
 *
 * CPython's `raw` domain on the heaps of threads, floor 4 (thread_domain.h): hooks in front of the allocator that was
 * there before. It keeps its blocks, and serves when the system refuses us.
 */
#ifndef SLABMALLOC_BINDINGS_RAWMEM_H
#define SLABMALLOC_BINDINGS_RAWMEM_H

/* Why the domain can't be installed in this process, as a sentence; NULL: nothing known. */
const char *rawmem_refusal(void);
/* Installs it; NULL, or a sentence that says why not. Called until it has succeeded. [main interpreter's lock held, or
 * CPython not started] */
const char *rawmem_install(void);

#endif
