/* SPDX-License-Identifier: MIT
 *
 * A zone, floor 2: one size-class allocator per class, the registry of its pages, and its pager if it has one.
 *
 * An allocator begins when its class is needed, in `sc` behind those that began before: what nobody needed has never
 * been touched, and has no memory. Until then the class's place is `none_yet`, which is no class's: its `next` is
 * NO_SLOT, its `index` the number of classes, all else 0. Who allocates finds it used up, and comes to
 * zone_sc_of_class by the slow way in any case. What follows from the sizes alone lies outside, for all zones that have
 * the same. In a client's zone all classes begin with it, in their order.
 *
 * Invariants (`slabmalloc_zone_audit`): every slab on an allocator's lists is in the registry, and no other;
 * for each class: pages = pages_taken - pages_returned = number of its slabs.
 */
#ifndef SLABMALLOC_ZONE_ZONE_H
#define SLABMALLOC_ZONE_ZONE_H

#include "slab/pager.h"
#include "slab/sizeclass.h"
#include "zone/registry.h"
#include "zone/sc.h"

enum { ZONE_SMALL_BYTES = 1024, ZONE_TABLE_BYTES = 128 * 1024 };

/* What the floor above wants to hear of; each may be NULL. */
typedef struct zone_watcher {
    void *context;
    void (*joined)(void *context, slab *s); /* the slab's page can be allocated from */
    void (*left)(void *context, slab *s);   /* it is about to leave */
    /* It is not current, and has come to another list by frees: the owner's, or others', of many slabs at a time. */
    void (*drained)(void *context, slab *s, bool by_others);
    /* The object has been freed twice by two threads at the same moment, as a collection finds out. */
    void (*doubled)(void *context, void *object);
    /* The system refuses memory for bookkeeping: false if nothing can be done about it. */
    bool (*starved)(void *context);
} zone_watcher;

struct slabmalloc_zone {
    _Atomic uint64_t owner; /* its thread_self(), or THREAD_UNOWNED; set by adopt */
    uint64_t small_bytes;   /* the largest size that the small table serves */
    /* By granule: where the allocator of the class lies, in bytes from the zone on. */
    uint32_t small_table[ZONE_SMALL_BYTES / SLABMALLOC_GRANULE_BYTES];
    uint16_t sc_table[SLABMALLOC_MAX_CLASSES]; /* the same by class, in cache lines */
    uint32_t max_bytes;                        /* the largest class */
    uint32_t guard_bytes;                      /* at the end of each page */
    const uint8_t *class_table;                /* see zone_fill_class_table */
    const slabmalloc_size_classes *classes;
    bool metadata_apart, random_start, has_pager;
    bool cursors_lag; /* frees do not move them: see sc.h */
    uint32_t forks;   /* how often the zone has come to be a child's copy */
    /* Pages that it takes, less those that it gives back, rather than fill what it shares with its parent. */
    size_t fresh_left_bytes, fresh_most_bytes;
    uint64_t random_state;
    slabmalloc_pager pager;
    registry registry;
    store store;
    zone_watcher watcher;
    slabmalloc_sc none_yet;
    /* Those that began; one is whole before it is counted, and read by anyone then. There is room for all classes. */
    _Atomic uint32_t sc_count;
    slabmalloc_sc sc[];
};

_Static_assert(_Alignof(slabmalloc_zone) > SLAB_ATTENTION, "the tag takes no bit of the address");

/* By granule, for sizes up to the largest and ZONE_TABLE_BYTES: the smallest class of at least as many bytes. */
size_t zone_class_table_bytes(const slabmalloc_size_classes *classes);
void zone_fill_class_table(const slabmalloc_size_classes *classes, uint8_t *class_table);

/* Bytes of a zone, and of the allocators that it may come to have. */
size_t zone_bytes(const slabmalloc_size_classes *classes);
/* slabmalloc_zone_create in a store, which the zone takes over, of classes (options->classes is not looked at) and
 * their table that outlive it. No class has begun. NULL: the system refuses, and the store is the caller's still. */
slabmalloc_zone *zone_create_in(store *store, const slabmalloc_zone_options *options,
                                const slabmalloc_size_classes *classes, const uint8_t *class_table);

/* The smallest class of at least `size` bytes, 0 ... max_bytes: beyond the table by a search. [any thread] */
NOINLINE uint32_t zone_class_search(const slabmalloc_zone *zone, size_t size);
ALWAYS_INLINE uint32_t zone_class_of_size(const slabmalloc_zone *zone, size_t size)
{
    if (UNLIKELY(size > ZONE_TABLE_BYTES))
        return zone_class_search(zone, size);
    return zone->class_table[(size + SLABMALLOC_GRANULE_BYTES - 1) / SLABMALLOC_GRANULE_BYTES];
}

/* The process is a forked child now. What the zone has is shared with the parent until it is written to, and then
 * copied, by OS pages: so the holes in slabs are left alone until the child has taken `bytes` of fresh pages. */
void zone_note_fork(slabmalloc_zone *zone, size_t bytes);

/* One page from the pager into `sc`; false: there is none. */
bool zone_refill_from_pager(slabmalloc_zone *zone, slabmalloc_sc *sc);
/* The slab whose page holds `address`, or NULL. [any thread] */
slab *zone_find(const slabmalloc_zone *zone, uintptr_t address);

ALWAYS_INLINE bool zone_is_owner(const slabmalloc_zone *zone)
{
    return LIKELY(atomic_load_explicit(&zone->owner, memory_order_relaxed) == thread_number);
}

ALWAYS_INLINE slabmalloc_sc *zone_sc_at(slabmalloc_zone *zone, size_t offset)
{
    slabmalloc_sc *sc = (slabmalloc_sc *)((char *)zone + offset);
    __asm__("" : "+r"(sc)); /* one register from here on: compilers would rather add up each field's address anew */
    ASSUME(sc != NULL);
    return sc;
}

/* The class's allocator begins. */
NOINLINE slabmalloc_sc *zone_sc_begin(slabmalloc_zone *zone, uint32_t class_index);

/* The class's allocator, which begins if it has not. [owner] */
ALWAYS_INLINE slabmalloc_sc *zone_sc_of_class(slabmalloc_zone *zone, uint32_t class_index)
{
    size_t offset = zone->sc_table[class_index] * (size_t)CACHE_LINE_BYTES;
    return UNLIKELY(offset == offsetof(slabmalloc_zone, none_yet)) ? zone_sc_begin(zone, class_index)
                                                                   : zone_sc_at(zone, offset);
}

/* The allocator of a class that has begun, else none_yet. */
ALWAYS_INLINE slabmalloc_sc *zone_sc_or_none(slabmalloc_zone *zone, uint32_t class_index)
{
    return zone_sc_at(zone, zone->sc_table[class_index] * (size_t)CACHE_LINE_BYTES);
}

ALWAYS_INLINE uint32_t zone_sc_count(const slabmalloc_zone *zone)
{
    return atomic_load_explicit(&zone->sc_count, memory_order_acquire);
}

/* The allocator for a layout whose class is not simply the one of its size; NULL: an invalid layout. */
NOINLINE slabmalloc_sc *zone_sc_slow(slabmalloc_zone *zone, size_t size, size_t align);

/* The allocator for a layout in the common case, else NULL; in a zone all of whose classes have begun. A class c >=
 * size with align | c is at least round_up(size, align); so the first such class is the one to take, and for most
 * layouts it is simply the class of the size. */
ALWAYS_INLINE slabmalloc_sc *zone_sc_fast(slabmalloc_zone *zone, size_t size, size_t align)
{
    if (UNLIKELY(size - 1 >= zone->small_bytes)) /* 0 as well */
        return NULL;
    slabmalloc_sc *sc = zone_sc_at(zone, zone->small_table[(size - 1) / SLABMALLOC_GRANULE_BYTES]);
    /* align = 0 makes the mask all ones, and no size is 0 under that. */
    return LIKELY(((sc->object_bytes | align) & (align - 1)) == 0) ? sc : NULL;
}

/* The same. */
static inline slabmalloc_sc *zone_sc(slabmalloc_zone *zone, size_t size, size_t align)
{
    slabmalloc_sc *sc = zone_sc_fast(zone, size, align);
    return sc != NULL ? sc : zone_sc_slow(zone, size, align);
}

#endif
