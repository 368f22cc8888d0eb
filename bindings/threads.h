/* SPDX-License-Identifier: MIT
 *
 * A heap per thread, floor 4: opened at the thread's first allocation, abandoned at its end for the next thread. A
 * pointer and two flags of thread-local storage, in the static block: a large block there would make dlopen fail.
 *
 * What heap.h asks of owners. A thread's name is its gettid, written when the heap is its own. Its end, a destructor
 * of the C library's, abandons the heap; later destructors that allocate open one for each call (`thread_heap_done`).
 * If a heap is opened when no destructor will run any more, nobody abandons it: then the kernel is asked whether the
 * thread is gone. What space.h asks of fork: before it the lock of the space's making is taken, then the space's; in
 * the child the forking thread's heap and the interpreter's are kept, and the former gets its new name. The models of
 * both are in tests/model/spin: adoption.pml, fork.pml.
 */
#ifndef SLABMALLOC_BINDINGS_THREADS_H
#define SLABMALLOC_BINDINGS_THREADS_H

#include <stdbool.h>

#include "heap/heap.h"

/* The GNU C library has room in the static block for libraries that are loaded late; others don't. */
#ifdef __GLIBC__
#define STATIC_TLS __attribute__((tls_model("initial-exec")))
#else
#define STATIC_TLS
#endif

/* The calling thread's heap; before its first allocation, and after its end has begun, no_heap: that serves no size and
 * has no slab, so the quick paths need not ask. */
extern _Thread_local heap *thread_heap STATIC_TLS;
extern heap no_heap;

/* The same for all others: NULL if there is none. */
static inline heap *thread_heap_if_any(void)
{
    heap *h = thread_heap;
    return h == &no_heap ? NULL : h;
}

/* The thread is in an allocator that was there before, on behalf of `obj` or `mem`. What that takes from `raw` it may
 * hand on in pieces, with words of its own before them, which nobody could tell from our blocks: so it gets none. */
extern _Thread_local bool thread_is_passing STATIC_TLS;

/* The calling thread's heap, opened if need be; NULL: the system refuses. errno is kept. Whoever has called it calls
 * thread_heap_done in the end: a thread whose end has begun keeps no heap from one call to the next. */
heap *thread_heap_open(void);
void thread_heap_done(heap *h);
/* The space of the process; NULL: the system refuses. [any thread, at any time] */
space *process_space(void);
/* The same, if there is one already. */
space *process_space_if_any(void);
/* What fork does to heaps. To be called before the first thread has one, and before others register handlers of fork:
 * theirs would come to their turn while ours hold the locks, and wait for ever if they allocate. Again: nothing. */
void threads_watch_forks(void);

#endif
