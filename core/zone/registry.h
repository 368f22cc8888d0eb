/* SPDX-License-Identifier: MIT
 *
 * From a page's address to its slab, floor 2: a hash table that the owner changes and any thread reads, without a lock.
 *
 * Layout: open addressing, linear probing, at most a quarter full; an entry is a pointer to a slab record, whose `page`
 * is the key. A free entry points to `registry_nothing`, a record of no page and no allocator, and that is what a
 * search that fails returns.
 *
 * Readers. A hit is sure: records stay mapped while the zone lives, and a record whose `page` is the one looked for is
 * the slab of that page. A miss may be due to a change under way (a table being replaced, an entry being moved), so it
 * counts only if `version` was even and has not changed meanwhile; else the reader looks again. A page that stays in
 * the zone is therefore found by every reader at every time.
 */
#ifndef SLABMALLOC_ZONE_REGISTRY_H
#define SLABMALLOC_ZONE_REGISTRY_H

#include "slab/pager.h"
#include "slab/slab.h"

/* Its page is no page's address, being odd. */
extern slab registry_nothing;

typedef struct registry_table {
    uint64_t factor; /* the golden ratio above the bits of a page size, of which keys are multiples */
    uint32_t shift;  /* 64 - log2 of the number of entries */
    size_t mask;     /* number of entries - 1 */
    slab *_Atomic entries[];
} registry_table;

typedef struct registry {
    registry_table *_Atomic table;
    _Atomic uint64_t version; /* odd while an entry moves */
    size_t count;
    uint32_t page_log2; /* of the smaller page size */
    store *store;       /* old tables stay in it until the zone ends: together less than the table in use */
} registry;

bool registry_init(registry *r, store *store, size_t smaller_page_bytes);
/* The page must not be in it. false: the system refused memory; nothing changed. */
bool registry_insert(registry *r, slab *s);
/* The record must be in it, its `page` still set. */
void registry_remove(registry *r, slab *s);
/* After a first look that failed: [any thread] */
slab *registry_find_surely(const registry *r, uintptr_t page);

ALWAYS_INLINE size_t registry_home(const registry_table *table, uintptr_t page)
{
    return (size_t)((page * table->factor) >> table->shift);
}

/* The record at the page's home: mostly the page's. */
ALWAYS_INLINE slab *registry_probe_home(const registry *r, uintptr_t page)
{
    registry_table *table = atomic_load_explicit(&r->table, memory_order_acquire);
    return atomic_load_explicit(&table->entries[registry_home(table, page)], memory_order_acquire);
}

ALWAYS_INLINE slab *registry_probe(const registry *r, uintptr_t page)
{
    registry_table *table = atomic_load_explicit(&r->table, memory_order_acquire);
    for (size_t at = registry_home(table, page);; at = (at + 1) & table->mask) {
        slab *s = atomic_load_explicit(&table->entries[at], memory_order_acquire);
        if (LIKELY(slab_page(s) == page) || s == &registry_nothing)
            return s;
    }
}

/* The slab of the page at `page`, or registry_nothing. [any thread] */
ALWAYS_INLINE slab *registry_find(const registry *r, uintptr_t page)
{
    slab *s = registry_probe(r, page);
    return LIKELY(s != &registry_nothing) ? s : registry_find_surely(r, page);
}

#endif
