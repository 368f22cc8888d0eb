/* SPDX-License-Identifier: MIT
 *
 * From a page's address to its slab: see registry.h for what readers rely on.
 */
#include "zone/registry.h"

#include "base/check.h"

enum { FIRST_LOG2 = 4 };

slab registry_nothing = {.page = 1, .list = SLAB_UNUSED};

static registry_table *table_new(store *store, uint32_t log2, uint32_t page_log2)
{
    size_t entries = (size_t)1 << log2;
    registry_table *table = store_take(store, sizeof(registry_table) + entries * sizeof(slab *));
    if (table != NULL) {
        table->shift = WORD_BITS - log2;
        table->mask = entries - 1;
        table->factor = hash_multiply(1) >> page_log2 | 1;
        for (size_t at = 0; at < entries; at++)
            atomic_init(&table->entries[at], &registry_nothing);
    }
    return table;
}

bool registry_init(registry *r, store *store, size_t smaller_page_bytes)
{
    r->page_log2 = (uint32_t)word_lowest(smaller_page_bytes);
    registry_table *table = table_new(store, FIRST_LOG2, r->page_log2);
    r->store = store;
    r->count = 0;
    atomic_init(&r->version, 0);
    atomic_init(&r->table, table);
    return table != NULL;
}

slab *registry_find_surely(const registry *r, uintptr_t page)
{
    for (;;) {
        uint64_t before = atomic_load_explicit(&r->version, memory_order_acquire);
        slab *s = registry_probe(r, page);
        atomic_thread_fence(memory_order_acquire);
        if (s != &registry_nothing ||
            (before % 2 == 0 && before == atomic_load_explicit(&r->version, memory_order_relaxed)))
            return s;
    }
}

static void table_put(registry_table *table, slab *s)
{
    size_t at = registry_home(table, slab_page(s));
    while (atomic_load_explicit(&table->entries[at], memory_order_relaxed) != &registry_nothing)
        at = (at + 1) & table->mask;
    atomic_store_explicit(&table->entries[at], s, memory_order_release);
}

/* A fresh table is complete before it is published: a reader of the old one misses only pages that came later. */
static bool registry_grow(registry *r)
{
    registry_table *old = atomic_load_explicit(&r->table, memory_order_relaxed);
    registry_table *table = table_new(r->store, WORD_BITS - old->shift + 1, r->page_log2);
    if (table == NULL)
        return false;
    for (size_t at = 0; at <= old->mask; at++) {
        slab *s = atomic_load_explicit(&old->entries[at], memory_order_relaxed);
        if (s != &registry_nothing)
            table_put(table, s);
    }
    atomic_store_explicit(&r->table, table, memory_order_release);
    atomic_fetch_add_explicit(&r->version, 2, memory_order_release);
    return true;
}

bool registry_insert(registry *r, slab *s)
{
    registry_table *table = atomic_load_explicit(&r->table, memory_order_relaxed);
    if ((r->count + 1) * 4 > table->mask + 1 && !registry_grow(r))
        return false;
    table_put(atomic_load_explicit(&r->table, memory_order_relaxed), s);
    r->count++;
    return true;
}

/* Closes the gap: an entry behind it moves up, unless it would pass its home. */
void registry_remove(registry *r, slab *s)
{
    registry_table *table = atomic_load_explicit(&r->table, memory_order_relaxed);
    size_t gap = registry_home(table, slab_page(s));
    while (atomic_load_explicit(&table->entries[gap], memory_order_relaxed) != s)
        gap = (gap + 1) & table->mask;

    atomic_fetch_add_explicit(&r->version, 1, memory_order_seq_cst);
    for (size_t at = (gap + 1) & table->mask;; at = (at + 1) & table->mask) {
        slab *later = atomic_load_explicit(&table->entries[at], memory_order_relaxed);
        if (later == &registry_nothing)
            break;
        size_t home = registry_home(table, slab_page(later));
        if (((at - home) & table->mask) >= ((at - gap) & table->mask)) {
            atomic_store_explicit(&table->entries[gap], later, memory_order_release);
            gap = at;
        }
    }
    atomic_store_explicit(&table->entries[gap], &registry_nothing, memory_order_release);
    atomic_fetch_add_explicit(&r->version, 1, memory_order_release);
    r->count--;
}
