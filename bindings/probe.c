/* SPDX-License-Identifier: MIT
 *
 * Who serves a domain at this moment: see probe.h.
 */
#define _GNU_SOURCE /* RTLD_DEFAULT, dladdr */
#include "probe.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

enum { BLOCKS = 32, BLOCK_BYTES = 64 };

/* By name, in the running process: what callers of the domain call. */
typedef struct door {
    const char *malloc, *free;
} door;

static const door doors[PROCESS_DOMAINS] = {
    [DOMAIN_OBJ] = {"PyObject_Malloc", "PyObject_Free"},
    [DOMAIN_MEM] = {"PyMem_Malloc", "PyMem_Free"},
    [DOMAIN_RAW] = {"PyMem_RawMalloc", "PyMem_RawFree"},
    [DOMAIN_MALLOC] = {"malloc", "free"},
};

static void count_all(const slabmalloc_process *process, uint64_t served[PROCESS_DOMAINS])
{
    for (int domain = 0; domain < PROCESS_DOMAINS; domain++) {
        pymem_counters counters;
        served[domain] = process->count((process_domain)domain, &counters) ? counters.served_blocks : 0;
    }
}

/* Are they all in our heap? Debug hooks hand out an address inside a block. */
static bool are_ours(space *s, void *const *blocks)
{
    for (int i = 0; i < BLOCKS; i++)
        if (blocks[i] == NULL || !heap_owns(s, blocks[i]))
            return false;
    return true;
}

process_domain probe_server(const slabmalloc_process *process, process_domain asked)
{
    space *s = process->get_space();
    void *symbols[2] = {dlsym(RTLD_DEFAULT, doors[asked].malloc), dlsym(RTLD_DEFAULT, doors[asked].free)};
    if (s == NULL || symbols[0] == NULL || symbols[1] == NULL)
        return PROCESS_DOMAINS;
    void *(*allocate)(size_t bytes);
    void (*give_back)(void *block);
    memcpy(&allocate, &symbols[0], sizeof(symbols[0]));
    memcpy(&give_back, &symbols[1], sizeof(symbols[1]));
    uint64_t before[PROCESS_DOMAINS], after[PROCESS_DOMAINS];
    void *blocks[BLOCKS];
    count_all(process, before);
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = allocate(BLOCK_BYTES);
    count_all(process, after);
    bool ours = are_ours(s, blocks);
    for (int i = 0; i < BLOCKS; i++)
        give_back(blocks[i]);
    if (!ours || after[asked] - before[asked] >= BLOCKS)
        return ours ? asked : PROCESS_DOMAINS;
    process_domain server = DOMAIN_OBJ;
    while (server < PROCESS_DOMAINS && after[server] - before[server] < BLOCKS)
        server++;
    return server;
}

#ifdef __GLIBC__
/* The first library behind the program that has the name itself; NULL: none has. */
static const char *first_library_with(const char *name, const struct link_map *program)
{
    for (const struct link_map *map = program->l_next; map != NULL; map = map->l_next) {
        void *library = dlopen(map->l_name, RTLD_LAZY | RTLD_NOLOAD);
        void *symbol = library == NULL ? NULL : dlsym(library, name); /* or of what it depends on */
        void *owner = NULL;
        Dl_info info;
        if (symbol != NULL && dladdr1(symbol, &info, &owner, RTLD_DL_LINKMAP) == 0)
            owner = NULL;
        if (library != NULL)
            dlclose(library);
        if (owner == map)
            return map->l_name;
    }
    return NULL;
}

/* Is it no function of the program's, but an entry in its table of calls? */
static bool is_entry(const void *symbol)
{
    Dl_info info;
    void *found = NULL;
    return dladdr1(symbol, &info, &found, RTLD_DL_SYMENT) != 0 && found != NULL &&
           ((const ElfW(Sym) *)found)->st_shndx == SHN_UNDEF;
}
#endif

const char *probe_malloc_file(void)
{
    Dl_info info;
    const char *file = NULL;
    void *symbol = dlsym(RTLD_DEFAULT, "malloc");
    if (symbol == NULL || dladdr(symbol, &info) == 0)
        return "?";
#ifdef __GLIBC__
    void *owner = NULL;
    if (is_entry(symbol) && dladdr1(symbol, &info, &owner, RTLD_DL_LINKMAP) != 0 && owner != NULL)
        file = first_library_with("malloc", owner);
#endif
    return file != NULL ? file : info.dli_fname;
}
