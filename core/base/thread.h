/* SPDX-License-Identifier: MIT
 *
 * Who is running, floor 0: a word that differs between any two threads alive at the same time, in one instruction
 * where the machine offers it, and without thread-local storage of our own (a large static block of it would make
 * dlopen fail).
 */
#ifndef SLABMALLOC_BASE_THREAD_H
#define SLABMALLOC_BASE_THREAD_H

#include <stdint.h>

#include "base/bits.h"

#define THREAD_NONE ((uintptr_t)0)

ALWAYS_INLINE uintptr_t thread_self(void)
{
#if defined(__x86_64__)
    uintptr_t self;
    __asm__("movq %%fs:0, %0" : "=r"(self));
    return self;
#elif defined(__aarch64__)
    uintptr_t self;
    __asm__("mrs %0, tpidr_el0" : "=r"(self));
    return self;
#else
    static _Thread_local char marker;
    return (uintptr_t)&marker;
#endif
}

#endif
