/* SPDX-License-Identifier: MIT
 *
 * Who is running, floor 0: a number per thread, drawn when the thread first needs one and never used again. (The thread
 * pointer would be a load cheaper, but the next thread may get the one of a thread that has ended, and would be taken
 * for it.) One word of thread-local storage, in the static block, where reading it is no call: a large block there
 * would make dlopen fail, a word does not.
 */
#ifndef SLABMALLOC_BASE_THREAD_H
#define SLABMALLOC_BASE_THREAD_H

#include <stdint.h>

#include "base/bits.h"

/* What an object has that no thread owns: never a thread's number, nor 0, which a thread has before it draws one. */
#define THREAD_UNOWNED UINT64_MAX

extern _Thread_local uint64_t thread_number __attribute__((tls_model("initial-exec")));

/* The calling thread's number, drawn if need be. */
uint64_t thread_self(void);

#endif
