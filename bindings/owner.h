/* SPDX-License-Identifier: MIT
 *
 * Who may act as owner of the process heap, floor 4. CPython's `obj` and `mem` domains run under the interpreter lock,
 * so whoever holds the lock of the main interpreter is the heap's owner, one thread at a time, and nothing here is
 * atomic. Since 3.12 an interpreter may have a lock of its own, and its threads come to the same hooks: they must never
 * be taken for the owner. While no interpreter but the main one exists the answer is one load; else the thread state
 * tells.
 *
 * CPython puts a new interpreter at the head of its list before any thread can run in it, and takes it off after the
 * last thread has left. So a thread of another interpreter never finds the main one at the head. What a thread of the
 * main interpreter finds does not matter: by its thread state it is the owner too.
 */
#ifndef SLABMALLOC_BINDINGS_OWNER_H
#define SLABMALLOC_BINDINGS_OWNER_H

#include <Python.h>
#include <stdbool.h>

#if PY_VERSION_HEX >= 0x030D0000
#define OWNER_THREAD_STATE PyThreadState_GetUnchecked
#else
#define OWNER_THREAD_STATE _PyThreadState_UncheckedGet
#endif

typedef struct owner_check {
    PyInterpreterState *main;
    /* From 3.13 on: where CPython keeps the head of its list of interpreters; where that is unknown, a place that holds
     * NULL, so that the thread state is asked each time. */
    PyInterpreterState *const *head;
} owner_check;

/* Fills `check`; false if there are other interpreters already. [main interpreter's lock held] */
bool owner_check_prepare(owner_check *check);

/* True if the calling thread holds the lock of the main interpreter. [any thread that holds an interpreter's lock] */
static inline bool owner_is_caller(const owner_check *check)
{
#if PY_VERSION_HEX < 0x030C0000
    (void)check; /* all interpreters share one lock */
    return true;
#else
#if PY_VERSION_HEX < 0x030D0000
    PyInterpreterState *head = PyInterpreterState_Head();
#else
    PyInterpreterState *head = __atomic_load_n(check->head, __ATOMIC_RELAXED);
#endif
    if (head == check->main)
        return true;
    const PyThreadState *state = OWNER_THREAD_STATE();
    return state != NULL && state->interp == check->main;
#endif
}

#endif
