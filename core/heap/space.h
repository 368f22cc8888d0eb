/* SPDX-License-Identifier: MIT
 *
 * What the heaps of a process share, floor 3: ranges of addresses and whose slab each page is, large objects, memory
 * that rests, and the heaps that have no owner now.
 *
 * Pages. `slabs` of a range has an entry per unit (64 KiB): the slab whose page the unit is part of, or NULL. It is
 * written by the owner of the slab's heap when the page joins or leaves, and read by anyone, without a lock: so an
 * address finds its slab by one comparison and one load. Lock. All else is guarded by `lock`, which is held for short
 * and known times only, but where memory is short, or all of it is to be given back (space_trim). Order:
 * nothing_lock, space.lock, large.lock.
 *
 * Fork. The child has the forking thread alone, and the memory as it was at one moment.
 *   1. space_fork_prepare takes both locks, in that order: what they guard is whole in the child, and they are held
 *      by a thread that is there to release them.
 *   2. A heap is whole if the forking thread owns it (`kept`), or if nobody does. Any other is HEAP_OWNED, borrowed
 *      ones too, and may have been caught in the midst of an operation: it becomes HEAP_LOST, which nobody opens,
 *      tends or takes for an orphan. Its objects live on, and may be freed, as remote frees that nobody collects.
 *   3. Freers may have been caught between a bit and its news, in heaps that are kept as well: remote.h says what
 *      then.
 *   4. Names of owners are the parent's. A kept heap gets the name that its owner has in the child, before anybody
 *      there can ask whether he is gone (bindings/threads.c).
 * Checked by the model tests/model/spin/fork.pml, which fails with any of these left out.
 */
#ifndef SLABMALLOC_HEAP_SPACE_H
#define SLABMALLOC_HEAP_SPACE_H

#include <pthread.h>

#include "heap/arena.h"
#include "heap/classes.h"
#include "heap/large.h"
#include "heap/tally.h"
#include "zone/zone.h"

enum { SPACE_MAX_RANGES = 64 };

typedef struct range {
    arena arena;
    slab *_Atomic *slabs; /* by unit */
    uint16_t *purged;     /* by unit, of its slab's owner: OS pages that are purged, a bit each, if the slab has any */
    uint16_t *seen;       /* by a page's first unit, of its slab's owner: free slots at the last visit of the sweep */
    size_t tables_bytes;
} range;

struct space;

/* What nobody outside can know: of hardened.h, drawn once. */
typedef struct space_secrets {
    uint64_t address, state;  /* of the hash in a seal */
    uint64_t stride, inverse; /* what a seal counts in; stride x inverse = 1 modulo 2^64 */
    uint64_t fill;            /* eight bytes, all the same */
} space_secrets;

typedef struct space_options {
    size_t reserve_bytes;    /* of the first range; 0: 64 GiB, halved until the system grants it */
    uint32_t max_ranges;     /* 1 ... SPACE_MAX_RANGES */
    uint32_t decay_ms;       /* memory goes back when it has rested so long; 0: at once */
    size_t rest_bound_bytes; /* as much may rest of large objects, and of pages, or an eighth of what is live */
    bool is_hardened;        /* see hardened.h; no huge pages then */
    bool huge_pages;         /* memory is put into huge pages, and goes back by whole ones */
    huge_machine machine;    /* as it is */
    /* Called where a collection finds that two threads freed an object at the same moment; NULL: it is counted alone.
     * The caller holds no lock. */
    void (*late_double_free)(struct space *s, const void *object);
    slabmalloc_size_classes classes;
    /* What to do about an object that was written to after its free; NULL: count, and never serve it again. */
    void (*damaged)(struct space *s, const void *object);
} space_options;

/* What was done in a class: objects handed out, and remote frees that were collected. */
typedef struct class_counts {
    uint64_t served, remote_frees;
} class_counts;

/* What the heaps that have ended did. */
typedef struct space_past {
    tally_sum tallies[HEAP_TALLIES];
    uint64_t swept_bytes;
    class_counts classes[HEAP_CLASSES];
} space_past;

typedef struct space {
    space_secrets secrets;
    size_t guarded_bytes; /* of the first range: pages there have guards */
    _Atomic uint64_t damages;
    pthread_mutex_t lock;
    range ranges[SPACE_MAX_RANGES];
    _Atomic uint32_t range_count; /* ranges are added, never removed; a range is whole before it is counted */
    large_space large;
    _Atomic size_t in_use_bytes; /* of pages */
    _Atomic bool has_traps;      /* a page has come back whose guard the system would not take away */
    struct heap *heaps;          /* all, by next and previous */
    space_past past;
    /* By class, of all heaps: pages in use now, and the most that there ever were; of objects without bytes none. */
    _Atomic size_t class_pages[HEAP_CLASSES], class_peak_pages[HEAP_CLASSES];
    pthread_mutex_t nothing_lock;
    struct heap *nothing;        /* see heap_allocate_nothing; NULL until it is needed [nothing_lock] */
    struct heap *abandoned;      /* those without an owner, by next_abandoned */
    struct heap *last_abandoned; /* the last of these, if there are any */
    struct heap *asked;          /* the next whose owner may be gone */
    _Atomic uint64_t trims;      /* so far */
    space_options options;
    huge_use huge;
    _Atomic bool has_roomy;   /* an object has been left in a slot too large for it: memory was refused */
    const char *huge_refusal; /* NULL, or why huge pages are wanted and not used */
    uint64_t refused_ms;      /* when the system refused a further range */
    uint64_t next_decay_ms;   /* when the next window of the arenas' decay ends */
    size_t to_purge;          /* units that could have been purged during all of the window before */
    /* Of options.classes, for all zones; it does not change. */
    uint8_t class_table[HEAP_MEDIUM_BYTES / SLABMALLOC_GRANULE_BYTES + 1];
} space;

space_options space_options_default(void);
/* NULL: the system grants not even 4 MiB. */
space *space_create(const space_options *options);
/* Ends it, with all its heaps. [no other thread may use any of them] */
void space_destroy(space *s);

/* A page for the owner of a heap; NULL: no range has one, and no further range is granted. [any thread] */
void *space_take_page(space *s, size_t page_bytes);
void space_give_page(space *s, void *page, size_t page_bytes);

/* The range that has `address`, or NULL. [any thread] */
ALWAYS_INLINE range *space_range_of(space *s, uintptr_t address)
{
    uint32_t count = atomic_load_explicit(&s->range_count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++)
        if (address - s->ranges[i].arena.base < s->ranges[i].arena.reserved_bytes)
            return &s->ranges[i];
    return NULL;
}

ALWAYS_INLINE size_t range_unit_of(const range *r, uintptr_t address)
{
    return (address - r->arena.base) / ARENA_UNIT_BYTES;
}

/* The slab on whose page `address` lies, or NULL. [any thread] */
ALWAYS_INLINE slab *space_slab_at(space *s, uintptr_t address)
{
    const range *r = space_range_of(s, address);
    return r == NULL ? NULL : atomic_load_explicit(&r->slabs[range_unit_of(r, address)], memory_order_acquire);
}

/* Is it an address of a range, and not lent? [any thread] */
bool space_holds(space *s, uintptr_t address);
/* The system has refused `bytes`, or some for their bookkeeping. If that is since the process is at its limits
 * (`ulimit -v`, `-d`), addresses of the ranges that are not in use are lent to it (arena.h), if there are enough.
 * False: nothing has changed, and there is no use in asking again. [any thread] */
bool space_make_room(space *s, size_t bytes);
/* Would there be enough if no page were in use? Else it is no use to free any for it. [any thread] */
bool space_could_make_room(space *s, size_t bytes);
/* large_allocate and large_resize, which make room. [any thread] */
void *space_allocate_large(space *s, size_t bytes, size_t align, bool *is_zero);
void *space_resize_large(space *s, void *object, size_t bytes);

/* Monotonic, in steps of a few ms; cheap. */
uint64_t space_now_ms(void);
/* Monotonic and exact, for what must not take long. */
uint64_t space_clock_ns(void);
/* A small step of giving back what of the shared memory is due now; true: there is more. [any thread] */
bool space_decay(space *s, uint64_t now_ms);
/* All that rests goes back; returns bytes. [any thread] */
size_t space_trim(space *s);

void space_fork_prepare(space *s);
void space_fork_parent(space *s);
/* `kept`: heaps of the forking thread, up to `count`; all others that have an owner are lost. */
void space_fork_child(space *s, struct heap *const *kept, size_t count);

#endif
