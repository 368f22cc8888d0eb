/* SPDX-License-Identifier: MIT
 *
 * CPython's allocators, floor 4: the struct of functions that serves a domain, and the two functions that tell and set
 * it, looked up in the running process. Nothing of CPython is compiled in.
 */
#ifndef SLABMALLOC_BINDINGS_PYTHON_ALLOCATOR_H
#define SLABMALLOC_BINDINGS_PYTHON_ALLOCATOR_H

#include <stdbool.h>
#include <stddef.h>

/* PyMemAllocatorDomain */
typedef enum python_domain { PYTHON_RAW, PYTHON_MEM, PYTHON_OBJ } python_domain;

/* PyMemAllocatorEx, as it is since 3.5. */
typedef struct python_allocator {
    void *context;
    void *(*malloc)(void *context, size_t bytes);
    void *(*calloc)(void *context, size_t count, size_t bytes);
    void *(*realloc)(void *context, void *block, size_t bytes);
    void (*free)(void *context, void *block);
} python_allocator;

/* Looks the functions below up; false: this process is no CPython. */
bool python_allocator_find(void);
extern void (*python_allocator_get)(python_domain domain, python_allocator *allocator);
extern void (*python_allocator_set)(python_domain domain, python_allocator *allocator);

#endif
