/* SPDX-License-Identifier: MIT
 *
 * A program with an interpreter inside: `embeds LIBPYTHON CODE` runs the code. libpython is opened, not linked, so that
 * no header of it is needed.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static void *library;

static void find(void *function, const char *name)
{
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof(symbol));
}

int main(int count, char **words)
{
    library = count == 3 ? dlopen(words[1], RTLD_NOW | RTLD_GLOBAL) : NULL;
    if (library == NULL) {
        fprintf(stderr, "usage: embeds LIBPYTHON CODE; %s\n", count == 3 ? dlerror() : "");
        return 2;
    }
    void (*initialize)(void);
    int (*run)(const char *code), (*finalize)(void);
    find(&initialize, "Py_Initialize");
    find(&run, "PyRun_SimpleString");
    find(&finalize, "Py_FinalizeEx");
    initialize();
    return run(words[2]) != 0 || finalize() != 0;
}
