/* SPDX-License-Identifier: MIT
 *
 * Numbers of threads: see thread.h.
 */
#include "base/thread.h"

_Thread_local uint64_t thread_number;

uint64_t thread_self(void)
{
    static _Atomic uint64_t last;
    if (thread_number == 0)
        thread_number = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
    return thread_number;
}
