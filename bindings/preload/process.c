/* SPDX-License-Identifier: MIT
 *
 * The beginning, floor 4: if the program is a CPython, its domains `obj` and `mem` are installed before it initialises, which is the
 * one moment at which CPython supports a replacement without restriction. (`raw` ends in malloc, and so is ours as well.)
 *     SLABMALLOC_DOMAINS    which of obj and mem; default both, "" neither
 */
#include "process.h"

#include <stdlib.h>
#include <string.h>

#include "threads.h"

static const char *install(unsigned mask) { return pymem_install(mask, process_space); }

static bool count_malloc(pymem_counters *counters)
{
    *counters = (pymem_counters){.served_blocks = 0};
    space *s = process_space_if_any();
    if (s == NULL)
        return true;
    pthread_mutex_lock(&s->lock);
    for (const heap *h = s->heaps; h != NULL; h = h->next) {
        counters->served_blocks += atomic_load_explicit(&h->counters.served_blocks, memory_order_relaxed);
        counters->served_bytes += atomic_load_explicit(&h->counters.served_bytes, memory_order_relaxed);
        counters->freed_blocks += atomic_load_explicit(&h->counters.freed_blocks, memory_order_relaxed);
        counters->resized_blocks += atomic_load_explicit(&h->counters.resized_blocks, memory_order_relaxed);
    }
    pthread_mutex_unlock(&s->lock);
    counters->freed_blocks += atomic_load_explicit(&s->frees_without_heap, memory_order_relaxed);
    return true;
}

static size_t trim(void)
{
    heap *h = pymem_heap();
    size_t bytes = h == NULL ? 0 : heap_trim(h);
    return thread_heap == NULL ? bytes : bytes + heap_trim(thread_heap);
}

static const char *audit(void)
{
    heap *h = pymem_heap();
    const char *fault = h == NULL ? NULL : heap_audit(h);
    return fault != NULL || thread_heap == NULL ? fault : heap_audit(thread_heap);
}

__attribute__((visibility("default"))) extern const slabmalloc_process slabmalloc_process_table;
const slabmalloc_process slabmalloc_process_table = {
    .table_bytes = sizeof(slabmalloc_process),
    .form = "preload",
    .refusal = pymem_refusal,
    .install = install,
    .is_installed = pymem_is_installed,
    .count = pymem_count,
    .count_malloc = count_malloc,
    .get_space = process_space_if_any,
    .trim = trim,
    .audit = audit,
};

/* Is `word` in the list of words that commas part? */
static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; at != NULL; at = strchr(at, ','), at += at != NULL)
        if (strncmp(at, word, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    return false;
}

__attribute__((constructor)) static void begin(void)
{
    threads_watch_forks();
    const char *list = getenv("SLABMALLOC_DOMAINS");
    unsigned mask = 0;
    if (list == NULL || has_word(list, "obj"))
        mask |= 1u << PYMEM_OBJ;
    if (list == NULL || has_word(list, "mem"))
        mask |= 1u << PYMEM_MEM;
    if (mask != 0)
        install(
            mask); /* refused where the program is no CPython, or one that must be left alone: `malloc` is ours anyway */
}
