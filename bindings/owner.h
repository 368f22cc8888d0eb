/* SPDX-License-Identifier: MIT
 *
 * Who may act as owner of the heap behind CPython's `obj` and `mem` domains, floor 4. They are asked for under the
 * interpreter lock, so whoever holds the lock of the main interpreter is the heap's owner, one thread at a time, and
 * nothing there is atomic. Since 3.12 an interpreter may have a lock of its own, and its threads come to the same
 * hooks: they must never be taken for the owner. While no interpreter but the main one exists the answer is one
 * comparison; else the thread state tells.
 *
 * CPython puts a new interpreter at the head of its list before any thread can run in it, and takes it off after the
 * last thread has left. So a thread of another interpreter never finds the main one at the head. What a thread of the
 * main interpreter finds does not matter: by its thread state it is the owner too. Before there is any interpreter
 * there is one thread.
 *
 * Nothing of CPython is compiled in: its functions are looked up in the running process, so one library serves every
 * release.
 */
#ifndef SLABMALLOC_BINDINGS_OWNER_H
#define SLABMALLOC_BINDINGS_OWNER_H

#include <stdbool.h>

/* Opaque here. */
typedef struct interpreter interpreter;

/* Both are written while no other interpreter exists, and plain reads follow by way of its making. */
typedef struct owner_check {
    /* From 3.13 on where CPython keeps the head of its list; before 3.12, where all interpreters share one lock, a
     * place that holds NULL, as `main` then stays; where the list is out of sight, one that never holds what `main` is.
      */
    interpreter *const *head;
    interpreter *main; /* NULL until it exists */
    bool is_certain;   /* whoever asks is the owner, for ever: all interpreters share one lock */
} owner_check;

/* Fills `check`; NULL, or why the domains can't be served in this process, as a sentence. */
const char *owner_check_prepare(owner_check *check);
/* Is the caller in the main interpreter, or is there none yet? [an interpreter's lock held] */
bool owner_is_in_main(void);
/* Are there interpreters besides the main one? [main interpreter's lock held] */
bool owner_others_exist(void);
/* The rest of owner_is_caller. */
bool owner_is_caller_by_state(owner_check *check);

/* If this is true so is owner_is_caller, which may cost a call. */
static inline bool owner_is_caller_quickly(const owner_check *check)
{
    return __atomic_load_n(check->head, __ATOMIC_RELAXED) == check->main;
}

/* True if the calling thread holds the lock of the main interpreter. [any thread that holds an interpreter's lock] */
static inline bool owner_is_caller(owner_check *check)
{
    return owner_is_caller_quickly(check) || owner_is_caller_by_state(check);
}

#endif
