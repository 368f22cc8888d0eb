/* SPDX-License-Identifier: MIT
 *
 * A heap per thread, floor 4: opened at the thread's first allocation, abandoned at its end for the next thread. One
 * pointer of thread-local storage, in the static block: a large block there would make dlopen fail.
 */
#ifndef SLABMALLOC_BINDINGS_PRELOAD_THREADS_H
#define SLABMALLOC_BINDINGS_PRELOAD_THREADS_H

#include "heap/heap.h"

/* The calling thread's heap; NULL before its first allocation, and after its end has begun. */
extern _Thread_local heap *thread_heap __attribute__((tls_model("initial-exec")));

/* The calling thread's heap, opened if need be; NULL: the system refuses. errno is kept. Whoever has called it calls
 * thread_heap_done in the end: a thread whose end has begun keeps no heap from one call to the next. */
heap *thread_heap_open(void);
void thread_heap_done(heap *h);
/* The space of the process; NULL: the system refuses. [any thread, at any time] */
space *process_space(void);
/* The same, if there is one already. */
space *process_space_if_any(void);
/* Called once, before there are threads: what fork does to heaps. */
void threads_watch_forks(void);

#endif
