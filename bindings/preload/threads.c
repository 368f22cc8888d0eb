/* SPDX-License-Identifier: MIT
 *
 * Heaps of threads: see threads.h. Nothing here calls malloc before the thread has its heap.
 */
#include "threads.h"

#include <pthread.h>

#include "options.h"
#include "pymem.h"

_Thread_local heap *thread_heap;

static space *_Atomic the_space;
static pthread_mutex_t space_lock = PTHREAD_MUTEX_INITIALIZER; /* held while the space is made, and around fork */

static pthread_key_t end_key;
static pthread_once_t end_key_once = PTHREAD_ONCE_INIT;

space *process_space_if_any(void) { return atomic_load_explicit(&the_space, memory_order_acquire); }

space *process_space(void)
{
    space *s = process_space_if_any();
    if (s != NULL)
        return s;
    pthread_mutex_lock(&space_lock);
    s = process_space_if_any();
    if (s == NULL) {
        space_options options = options_from_environment();
        s = space_create(&options);
        atomic_store_explicit(&the_space, s, memory_order_release);
    }
    pthread_mutex_unlock(&space_lock);
    return s;
}

/* ---- threads come and go --------------------------------------------------------------------------------- */

/* What the thread frees from here on, in destructors that come later, are remote frees; what it allocates opens a heap
 * anew. */
static void thread_ends(void *context)
{
    thread_heap = NULL;
    heap_abandon(context);
}

static void make_end_key(void) { pthread_key_create(&end_key, thread_ends); }

heap *thread_heap_open(void)
{
    space *s = process_space();
    heap *h = s == NULL ? NULL : heap_open(s);
    if (h == NULL)
        return NULL;
    thread_heap = h; /* before the C library is called, which may allocate */
    pthread_once(&end_key_once, make_end_key);
    pthread_setspecific(end_key, h);
    return h;
}

/* ---- fork ------------------------------------------------------------------------------------------------ */

static void before_fork(void)
{
    pthread_mutex_lock(&space_lock);
    if (process_space_if_any() != NULL)
        space_fork_prepare(process_space_if_any());
}

static void after_fork_in_parent(void)
{
    if (process_space_if_any() != NULL)
        space_fork_parent(process_space_if_any());
    pthread_mutex_unlock(&space_lock);
}

/* The interpreter's heap is in order: who forks holds the interpreter lock, or the child can't use CPython at all. */
static void after_fork_in_child(void)
{
    heap *kept[] = {thread_heap, pymem_heap()};
    if (process_space_if_any() != NULL)
        space_fork_child(process_space_if_any(), kept, 2);
    pthread_mutex_unlock(&space_lock);
}

void threads_watch_forks(void) { pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child); }
