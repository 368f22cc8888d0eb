/* SPDX-License-Identifier: MIT
 *
 * The side of every peer: `malloc` and `free` of the C library, or of the library that LD_PRELOAD puts in its place.
 */
#include "workloads.h"

#include <dlfcn.h>
#include <malloc.h>

static void side_begin(size_t size) { (void)size; }

static inline void *side_allocate(size_t size) { return malloc(size); }

static inline bool side_deallocate(void *object, size_t size)
{
    (void)size;
    free(object);
    return true;
}

static size_t side_usable_bytes(void *object, size_t size)
{
    (void)size;
    return malloc_usable_size(object);
}

static void side_print_memory(void) {}

/* The file that `malloc` comes from: the driver sees by it that a preload took effect. */
static void side_print_identity(void)
{
    Dl_info info;
    void *symbol = dlsym(RTLD_DEFAULT, "malloc");
    const char *path = dladdr(symbol, &info) != 0 ? info.dli_fname : "?";
    const char *slash = strrchr(path, '/');
    printf("\"%s\"", slash != NULL ? slash + 1 : path);
}
