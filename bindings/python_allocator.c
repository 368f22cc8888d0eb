/* SPDX-License-Identifier: MIT
 *
 * CPython's allocators: see python_allocator.h.
 */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "python_allocator.h"

#include <dlfcn.h>
#include <string.h>

void (*python_allocator_get)(python_domain domain, python_allocator *allocator);
void (*python_allocator_set)(python_domain domain, python_allocator *allocator);

bool python_allocator_find(void)
{
    void *get = dlsym(RTLD_DEFAULT, "PyMem_GetAllocator"), *set = dlsym(RTLD_DEFAULT, "PyMem_SetAllocator");
    memcpy(&python_allocator_get, &get, sizeof(get));
    memcpy(&python_allocator_set, &set, sizeof(set));
    return get != NULL && set != NULL;
}
