/* SPDX-License-Identifier: MIT
 *
 * Heaps of threads: see threads.h. Nothing here calls malloc before the thread has its heap.
 */
#define _GNU_SOURCE /* gettid, tgkill */
#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "options.h"
#include "pymem.h"

heap no_heap;
_Thread_local heap *thread_heap = &no_heap;
_Thread_local bool thread_is_passing;
static _Thread_local bool thread_is_ending STATIC_TLS;

static space *_Atomic the_space;
static pthread_mutex_t space_lock = PTHREAD_MUTEX_INITIALIZER; /* held while the space is made, and around fork */

static pthread_key_t end_key;
static bool has_end_key; /* else heaps of threads that end are orphans: see is_gone */
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

/* What the thread frees from here on, in destructors that come later, are remote frees. */
static void thread_ends(void *context)
{
    thread_heap = &no_heap;
    thread_is_ending = true;
    heap_abandon(context);
}

static void make_end_key(void) { has_end_key = pthread_key_create(&end_key, thread_ends) == 0; }

/* A thread that allocates first in the last round of its destructors has nobody left to abandon its heap. */
static bool is_gone(uint64_t owner)
{
    int reason = errno;
    bool is_gone = tgkill(getpid(), (pid_t)owner, 0) != 0 && errno == ESRCH;
    errno = reason;
    return is_gone;
}

heap *thread_heap_open(void)
{
    if (thread_heap_if_any() != NULL)
        return thread_heap;
    int reason = errno;
    space *s = process_space();
    heap *h = s == NULL ? NULL : heap_open(s, is_gone);
    if (h != NULL && !thread_is_ending) {
        h->owner = (uint64_t)gettid();
        thread_heap = h; /* before the C library is called, which may allocate */
        pthread_once(&end_key_once, make_end_key);
        if (has_end_key)
            pthread_setspecific(end_key, h);
    }
    errno = reason;
    return h;
}

void thread_heap_done(heap *h)
{
    if (UNLIKELY(thread_is_ending) && h != NULL)
        heap_abandon(h);
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
    heap *kept[] = {thread_heap_if_any(), pymem_heap()};
    if (process_space_if_any() != NULL)
        space_fork_child(process_space_if_any(), kept, 2);
    if (kept[0] != NULL)
        kept[0]->owner = (uint64_t)gettid();
    pthread_mutex_unlock(&space_lock);
}

void threads_watch_forks(void)
{
    static atomic_flag is_watched = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&is_watched))
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}
