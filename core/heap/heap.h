/* SPDX-License-Identifier: MIT
 *
 * The process heap, floor 3, for callers who give no layout back. A heap is what one owner allocates from: one zone
 * over pages of a space (space.h), which all heaps of the process share. Small objects live on pages of 64 KiB, medium
 * ones on pages of 1 MiB, larger ones are mappings of their own. Meta-data lies apart from all of them.
 *
 * Owners. A heap has one owner at a time: a thread, or (CPython's domains) whoever holds the interpreter lock. Frees
 * come from any thread: an address finds its slab, the slab its heap, and if that is not the caller's the free is a
 * remote one. An owner who ends abandons his heap; the next one who needs a heap adopts it, objects and all. If none
 * comes, and it holds nothing any more, it ends.
 *
 * Adoption. `state`, and the list of abandoned heaps, change under space.lock alone; at any time
 *     a heap is on the list  <=>  its state is HEAP_ABANDONED;  any other is one thread's at most to work in
 *   1. Who takes a heap off the list, to own it (heap_open) or to look after it (borrow), makes it HEAP_OWNED in the
 *      same section; heap_abandon, the only way back, is the last that he does with it. So two never work in one
 *      heap, and what one did happens before what the next one does: the lock's release and acquire carry it.
 *   2. An owner may end without abandoning. His heap is HEAP_OWNED and has his name, which he set after he had opened
 *      it; heap_open takes it if `is_gone` says so, and clears the name in the same section, for no second one to
 *      find it. Who borrows gives no name, and heap_abandon has cleared the last owner's: what is being looked after
 *      is no orphan.
 *   3. `is_gone` is true of a thread only when none of its code will run any more. A number that is in use again
 *      delays adoption, no more. What the dead did is seen by whoever is told so by the kernel, which orders the two
 *      itself: there is no edge of C11 here.
 *   4. Nothing is stranded. What is on the list is tended in any thread's ticks (giveback.c), until it is adopted; an
 *      orphan waits for a thread that needs a heap and finds the list empty. A trim sets `trim_wanted` of every other
 *      heap in one section, before it turns to those on the list: whoever has the heap next, its owner, a borrower or
 *      an adopter, finds it set, unless the heap has been trimmed since.
 *
 * End. An abandoned heap that has no page costs its books for nothing. Who looks after it and finds it so for the
 * second time, with a decay between and no owner, ends it (heap_return); a trim does not wait.
 *   5. By 1 nobody else is in it, and it is on no list from which anybody would get it: who ends it has borrowed it. In
 *      one section (E1) it leaves space.heaps, and what it counted goes to space.past; then (E2) its books go back.
 *   6. Who looks at heaps, or records of slabs, that are not his own (statistics, heap_inspect, a trim, fork) holds
 *      space.lock from where he finds them to his last look. He is through before E1, or finds neither: the entries of
 *      its pages in range.slabs were cleared before, as the pages left.
 *   7. Who frees an object, or asks for its size, finds the slab's record by such an entry without a lock. While the
 *      object is live its page is there, and so is the heap. When the page has left all its objects had been
 *      collected, and no freer touches the record any more (5. in remote.h).
 * A free that is wrong has no live object on its side. If it loads the entry right before the page leaves, and sleeps
 * until the heap has ended, for all of a decay or beside a trim, it meets what lies there then: nothing, as a rule, and
 * a signal ends the process instead of a line.
 *
 * Checked by the model tests/model/spin/adoption.pml, which fails with any of these left out.
 */
#ifndef SLABMALLOC_HEAP_H
#define SLABMALLOC_HEAP_H

#include "heap/space.h"
#include "heap/tally.h"
#include "slabmalloc.h"
#include "zone/remote.h"
#include "zone/zone.h"

#define HEAP_PAGE_BYTES ARENA_UNIT_BYTES         /* page of small objects */
#define HEAP_MEDIUM_PAGE_BYTES ARENA_CHUNK_BYTES /* page of medium objects */

typedef enum heap_state {
    HEAP_OWNED,
    HEAP_ABANDONED,
    HEAP_LOST /* its owner was another thread than the one that forked */
} heap_state;

/* What the quick paths read of a heap; the sizes, `bytes` too, are 0 where it is hardened (hardened.h). Nothing of it
 * changes: who serves one heap all the time keeps a copy at hand. */
typedef struct heap_view {
    slabmalloc_zone *zone;
    /* The first range of the space, which has nearly everything. */
    uintptr_t base;
    size_t bytes;
    slab *_Atomic *slabs;
    size_t small_bytes, end_bytes; /* ZONE_SMALL_BYTES, and one more than the largest class */
} heap_view;

/* Fields belong to the owner, but for those marked. */
typedef struct heap {
    heap_view view;
    space *space;
    struct hardened *hardened;              /* NULL: it is not */
    heap_tally tallies[HEAP_TALLIES];       /* whose is which is the business of whoever serves */
    uint64_t drains;                        /* slabs that changed lists by frees, so far */
    bool is_nothing;                        /* see heap_allocate_nothing */
    bool is_busy;                           /* giving back: what drains meanwhile is not the beginning of more */
    bool is_reclaiming;                     /* slabs that others emptied may still have to leave */
    bool is_trimming;                       /* the sweep's round takes what has just changed too */
    uint32_t collects_left;                 /* classes in which others may have freed */
    size_t visit_range, visit, visits_left; /* the sweep */
    uint32_t rounds_left;
    uint32_t looks_left[2]; /* for pages that other classes have: of small, of medium ones */
    uint64_t next_looks_ms;
    uint64_t next_round_ms, next_tending_ms;
    uint64_t idle_ms;             /* when a tick last found nothing more to do */
    _Atomic uint64_t swept_bytes; /* purged inside slabs, so far; read by anyone */
    _Atomic bool trim_wanted;     /* [any thread] */

    bool was_tended;        /* it was looked after, and nobody has owned it since */
    bool was_vacant;        /* it was vacant then */
    uint64_t last_trim;     /* the last heap_trim that saw it while it was abandoned */
    _Atomic uint64_t owner; /* a name that whoever opens it may give him, for heap_open's `is_gone`; 0: none */
    heap_state state;       /* [space.lock] */
    struct heap *next, *previous, *next_abandoned; /* [space.lock] */
} heap;

/* So many of each kind in half a second, if the sweep's rounds come as often. */
enum { HEAP_LOOKS = 256, HEAP_LOOKS_MS = 500 };

/* For memory that shall be zero, from so many bytes on, one asks the system what has no memory yet: so often, of a slab
 * that has just joined or was swept. */
enum { HEAP_ASKED_BYTES = 16 * 1024 };

ALWAYS_INLINE uint8_t heap_looks_of(const slab *s)
{
    return (uint8_t)min_size(2 * (size_t)s->sc->geometry.capacity, UINT8_MAX);
}

enum { SPACE_CLASSES = HEAP_CLASSES };

/* Of a size: live + free objects are the slots of its slabs. */
typedef struct space_class_stats {
    size_t object_bytes; /* 0: there never was a slab of this class */
    size_t slabs, pages_bytes;
    size_t resident_bytes;   /* of the pages; 0 before space_count_resident */
    size_t peak_pages_bytes; /* the most that there ever were */
    size_t live_objects, free_objects;
    uint64_t served_objects; /* handed out so far */
    uint64_t remote_frees;   /* collected, or still to be */
} space_class_stats;

/* Of all heaps of a space. mapped = live + free + tail + resting, to the byte. */
typedef struct space_stats {
    size_t live_objects, live_bytes;        /* now, by class size; large objects included */
    size_t free_bytes;                      /* slots of slabs that are free */
    size_t tail_bytes;                      /* behind the last slot of slabs */
    size_t mapped_bytes, peak_mapped_bytes; /* pages of slabs, large objects, and what rests / sum of their maxima */
    size_t resting_bytes;                   /* free pages and large objects, not purged yet */
    size_t heap_resident_bytes;             /* of all that is mapped; 0 before space_count_resident */
    uint64_t given_back_bytes;              /* purged or unmapped so far */
    size_t reserved_bytes, bookkeeping_bytes;
    uint64_t served_objects;                      /* handed out so far */
    uint64_t remote_frees;                        /* collected, or still to be */
    size_t large_objects, large_bytes;            /* of the live ones */
    size_t large_resting_bytes, large_peak_bytes; /* of resting ones / the most that both ever were */
    size_t large_resident_bytes;                  /* of both; 0 before space_count_resident */
    uint64_t large_served, large_reused;          /* large objects so far / those of them that had rested */
    size_t heaps, abandoned_heaps;
    bool is_hardened;
    size_t huge_page_bytes; /* memory of pages goes back by so many; 0: they are in no huge pages */
    const char *huge_pages; /* "on", "off", or why they are off although they are wanted */
    space_class_stats classes[SPACE_CLASSES];
} space_stats;

/* A heap in a space of its own with this reserve (see space_options); NULL: the system refuses. */
heap *heap_create(size_t reserve_bytes);
void heap_destroy(heap *h);

/* A heap of the space for the caller: an abandoned one, else one whose owner `is_gone` (NULL: ask nobody) without
 * having abandoned it, else a new one; NULL: the system refuses. [any thread] */
heap *heap_open(space *s, bool (*is_gone)(uint64_t owner));
/* The caller owns it no more. [owner] */
void heap_abandon(heap *h);
/* The first abandoned heap that is due, or that `trim` (not 0) has not seen, for a while the caller's; NULL: there is
 * none. One at a time, so that a thread which needs a heap meanwhile finds the others. [any thread] */
heap *heap_borrow(space *s, uint64_t now_ms, uint64_t trim);
/* It is abandoned again; or it ends, if it is vacant: at once, or if it was so the last time too. [who borrowed it] */
void heap_return(heap *h, bool at_once);
/* A new heap, one of the space's; NULL: the system refuses. [any thread] */
heap *heap_make(space *s, bool is_nothing);
/* Its bookkeeping goes back; pages that it still has are the space's, which ends too. */
void heap_end(heap *h);
/* Adds what was done in it. [any thread, while the heap is there] */
void heap_add_counts(const heap *h, class_counts *by_class);

/* ---- objects --------------------------------------------------------------------------------------------- */

/* For sizes that are not small or not positive. */
NOINLINE void *heap_allocate_other(heap *h, size_t bytes);

/* The allocator for 1 ... ZONE_SMALL_BYTES, or none_yet (zone.h). [owner] */
ALWAYS_INLINE slabmalloc_sc *heap_sc_of_small(const heap_view *view, size_t bytes)
{
    slabmalloc_zone *zone = view->zone;
    ASSUME(bytes - 1 < ZONE_SMALL_BYTES); /* of view->small_bytes compilers know nothing */
    return zone_sc_at(zone, zone->small_table[(bytes - 1) / SLABMALLOC_GRANULE_BYTES]);
}

/* The same for all sizes, 0 too; NULL: no class is as large. [owner] */
ALWAYS_INLINE slabmalloc_sc *heap_sc_of(const heap_view *view, size_t bytes)
{
    if (UNLIKELY(bytes >= view->end_bytes))
        return NULL;
    ASSUME(bytes <= ZONE_TABLE_BYTES); /* the last class of every heap */
    return zone_sc_or_none(view->zone, zone_class_of_size(view->zone, bytes));
}

/* heap_allocate of a size that has a class, whose allocator may not have begun, or is at its cursor's end. */
NOINLINE void *heap_allocate_slow(heap *h, size_t bytes);

/* At least `bytes` (0 is served as 1), aligned to HEAP_ALIGN_BYTES; NULL: the system refuses. [owner] */
ALWAYS_INLINE void *heap_allocate(heap *h, size_t bytes)
{
    if (UNLIKELY(bytes - 1 >= h->view.small_bytes))
        return heap_allocate_other(h, bytes);
    slabmalloc_sc *sc = heap_sc_of_small(&h->view, bytes);
    uintptr_t object = sc->next;
    return UNLIKELY(object == NO_SLOT) ? heap_allocate_slow(h, bytes) : sc_allocate_next(sc, object);
}

/* The same, aligned to `align`, a power of two. [owner] */
void *heap_allocate_aligned(heap *h, size_t bytes, size_t align);
/* The same, and every byte of it is 0. [owner] */
void *heap_allocate_zeroed(heap *h, size_t bytes);

/* Frees an object of any heap of the space. Every free is checked; one that is not right changes nothing. [owner] */
slabmalloc_status heap_free(heap *h, void *object);

/* The slab on whose page an address lies, of any heap, or NULL: of pages of the first range alone, and never where the
 * heap is hardened. [any thread] */
ALWAYS_INLINE slab *heap_first_slab(const heap_view *view, uintptr_t object)
{
    uintptr_t offset = object - view->base;
    if (UNLIKELY(offset >= view->bytes))
        return NULL;
    return atomic_load_explicit(&view->slabs[offset / ARENA_UNIT_BYTES], memory_order_acquire);
}

/* What nearly every heap_free is, in two steps without a call, so that a caller who ends in calls has no frame: an
 * object of the caller's own heap, on a page of the first range, which changes a bit and a count and nothing else.
 *
 * The slab of such an object, or NULL. [owner] */
ALWAYS_INLINE slab *heap_own_slab(const heap_view *view, uintptr_t object)
{
    slab *s = heap_first_slab(view, object);
    return UNLIKELY(s == NULL) || UNLIKELY(!slab_is_plain_in(s, view->zone)) ? NULL : s;
}

/* Frees it, slot `index` of such a slab. False: it is free already, and nothing has changed. `lags`: the cursor stays
 * where it is; only if the heap's cursors may lag. [owner] */
ALWAYS_INLINE bool heap_free_slot(slab *s, uintptr_t object, size_t index, bool lags)
{
    size_t at = index / WORD_BITS;
    word *w = slab_local_apart(s) + at;
    uint64_t bits = word_get(w);
    if (UNLIKELY(word_add(&bits, index)))
        return false;
    word_set(w, bits);
    if (!lags && LIKELY(w == s->sc->next_word)) { /* so the slab is the current one, and the summary has its bit */
        sc_cursor_back(s->sc, object, index);
        return true;
    }
    if (!lags && s->list == SLAB_CURRENT) {
        word_add(&s->summary, at);
        if (object < s->sc->next)
            sc_cursor_set(s->sc, w, at);
        return true;
    }
    word_add(&s->summary, at); /* whether it was or not: nobody could predict that branch */
    if (UNLIKELY(--s->room == 0))
        sc_relist(s->sc, s);
    return true;
}

/* The same; false: there is no such slot, or it is free already. [owner] */
ALWAYS_INLINE bool heap_free_quickly(slab *s, uintptr_t object, bool lags)
{
    quotient slot = slab_slot_of(s, object);
    return LIKELY(slot.is_within) && heap_free_slot(s, object, slot.value, lags);
}

/* From now on no cursor lags (zone/sc.h): objects of a class lie in the order in which they are made, as far as there
 * is room. CPython's collector goes through all of them in that order, at half the speed where it is another one.
 * [owner] */
void heap_keep_order(heap *h);

/* What heap_free and heap_free_remote are where nothing is hardened. */
slabmalloc_status heap_release(heap *h, void *object);
slabmalloc_status heap_release_remote(space *s, void *object);
/* An object of no bytes: an address of its own, and whoever reads or writes there finds out. It is a slot in a slab
 * that is a guard as a whole, of a heap that all share. [any thread] */
void *heap_allocate_nothing(space *s);
/* Is it such an object, and live? [any thread] */
bool heap_is_nothing(space *s, const void *object);
ALWAYS_INLINE bool heap_slab_is_nothing(const slab *s)
{
    return ((const heap *)slab_zone(s)->watcher.context)->is_nothing;
}
/* heap_free for a caller who has no heap of the space. [any thread] */
slabmalloc_status heap_free_remote(space *s, void *object);

/* Does a live object begin there, on the slab's page? [any thread, for its own objects] */
ALWAYS_INLINE bool heap_is_live_in(const slab *s, uintptr_t object)
{
    quotient slot = slab_slot_of(s, object);
    return slot.is_within && !bitset_has(s->local, slot.value) &&
           !bitset_has(slab_remote(s, &s->sc->geometry), slot.value);
}

/* Usable bytes of a live object of the space; 0: none begins there, or it has none. [any thread, for its own
 * objects] */
size_t heap_usable_bytes(space *s, const void *object);
/* Is an object of so many usable bytes left where it is when it is to have `bytes`? A class or two below is not worth
 * the copy; what has grown to a medium size keeps its room to grow, up to a half; a large object keeps little. */
ALWAYS_INLINE bool heap_fits(size_t usable, size_t bytes)
{
    bool is_medium = usable > HEAP_SMALL_BYTES && usable <= HEAP_MEDIUM_BYTES;
    size_t room = is_medium ? usable / 2 : max_size(usable / 4, HEAP_ALIGN_BYTES);
    return bytes <= usable && usable - bytes < room;
}

/* To shrink never fails: the object stays where it is, in too large a slot, where memory is refused. */
static inline void *heap_left_roomy(space *s, void *object)
{
    atomic_store_explicit(&s->has_roomy, true, memory_order_relaxed);
    return object;
}

/* Could the live object have been asked for as `bytes`, aligned to `align`, when it was made or resized last? True if
 * no live object begins there: then that is what is wrong. [any thread, for its own objects] */
bool heap_may_have_size(space *s, const void *object, size_t bytes, size_t align);

/* The object with at least `bytes`: in place if it fits, else moved, contents kept; the old one is freed then. NULL:
 * the system refuses, or *status says that no live object begins there; nothing has changed. [owner] */
void *heap_reallocate(heap *h, void *object, size_t bytes, slabmalloc_status *status);
/* Is the address in a range of the space, or does a large object begin there, live or at rest? [any thread] */
bool heap_owns(space *s, const void *object);

/* ---- memory that goes back (giveback.c) -------------------------------------------------------------------- */

/* A part of the work of giving memory back, of about a millisecond at most; callers owe it now and then, say each
 * hundred calls. [owner] */
void heap_tick(heap *h);
/* Purges every empty page, and the empty OS pages inside slabs; heaps of other threads do their part in their next
 * ticks. Returns the bytes given back by now. [owner] */
size_t heap_trim(heap *h);
/* The pages of all its empty slabs leave at once; returns how many. [owner] */
size_t heap_reclaim(heap *h);
/* The system has refused memory: of what the heap has, and could do without, some becomes free, the pages of its empty
 * slabs first, then what a hardened one keeps back. False: there is nothing more. [owner] */
bool heap_yield(heap *h);
/* space_allocate_large, for which the heap yields if that may help. [owner] */
void *heap_allocate_large(heap *h, size_t bytes, size_t align, bool *is_zero);
/* space_resize_large, for which it yields as well. [owner] */
void *heap_resize_large(heap *h, void *object, size_t bytes);
/* What zone_watcher.drained tells. */
void heap_note_drained(void *context, slab *s, bool by_others);
/* Looks after an abandoned heap of the space that is due; false: there is none. [any thread] */
bool heap_tend_abandoned(space *s, uint64_t now_ms);

/* ---- what is there ---------------------------------------------------------------------------------------- */

/* O(pages + bitmap words). [any thread] */
space_stats space_statistics(space *s);
/* Adds how much of that is physical memory, OS page by OS page, as mincore tells: what a forked child shares too, and
 * what is swapped out not. Some 10 ms for each GiB; a lock is held for a chunk, for some large blocks, or for those
 * that rest. [any thread] */
void space_count_resident(space *s, space_stats *stats);
/* NULL: all invariants of the heap, and of what its space shares, hold; else which one does not. [owner] */
const char *heap_audit(heap *h);

/* What is at an address, as far as it can be told: for messages, not a fast path. */
typedef enum heap_place_kind {
    HEAP_NOWHERE,       /* not the heap's, and nothing of it is remembered */
    HEAP_SLOT,          /* in a slot of a slab */
    HEAP_TAIL,          /* on a slab's page, behind its last slot */
    HEAP_PAGE_RESTING,  /* on a page that went back to its arena */
    HEAP_PAGE_PURGED,   /* on one without memory: it went back and was purged, or is next to be used */
    HEAP_PAGE_UNUSED,   /* in a range, where there has been no page yet */
    HEAP_LARGE,         /* in a live large object */
    HEAP_LARGE_RESTING, /* in one that was freed and rests */
    HEAP_LARGE_GONE,    /* where one was lately that was freed and went back to the system */
    HEAP_LARGE_MOVED    /* where one was lately that reallocation moved */
} heap_place_kind;

typedef struct heap_place {
    heap_place_kind kind;
    void *object;        /* where the slot, or the large object, begins; NULL: there is none */
    size_t object_bytes; /* of the slab's class, or the large object */
    bool is_live;        /* a slot's or a large object's */
    /* Of a slab: */
    size_t slot_index, capacity, live_count;
    bool is_current;
} heap_place;

/* O(large objects, or words of a bitmap). Other threads are not waited for, so of their slabs it may be a moment
 * old. */
heap_place heap_inspect(space *s, const void *address);

#endif
