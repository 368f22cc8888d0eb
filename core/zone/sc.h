/* SPDX-License-Identifier: MIT
 *
 * The size-class allocator, floor 2: all slabs of one class, and the two hot paths.
 *
 * States of a slab and their transitions (all by the owner):
 *
 *     refill -> empty --chosen--> current --exhausted, another chosen--> full
 *                 ^                  |                                     | first free
 *                 |                  +--reclaim, if no slot is in use-->   v
 *                 +--------- last live object freed --------------- partial (bands) --chosen--> current
 *
 * A partial slab is in band (free * SLAB_BANDS - 1) / capacity; the slab chosen next is the front of the lowest band
 * that has one (the fullest quarter), else the front of the empty list: full slabs are filled up, sparse ones drain. A
 * slab joins its band at the back: while it waits it gathers frees, so that it serves several allocations when its turn
 * comes. At the front it would be chosen for the one slot just freed. Empty slabs join at the front: they are warm.
 *
 * In a forked child (zone_note_fork) the slabs that are partial by then go to lists of their own, one per band, from
 * which slabs are chosen last: after the child's own partial slabs, after empty ones, and, while zone.fresh_left_bytes
 * last, after a page from the pager. A slab's `list` stays its band, and its next change of lists brings it back among
 * the others.
 *
 * The cursor. `next` is the slot that the next allocation returns, known beforehand, so that neither the scan for it
 * nor the free before it delays the caller:
 *     next != NO_SLOT: a slot of the current slab's local set, the lowest of its word (but for what is said below of
 *     cursors that lag); next_word is the word of its bit, the last bits of next_index tell
 *     which one it is, next_base is the slot of the word's bit 0;
 *     next == NO_SLOT: next_word is used up, or NULL.
 * What is used up is left so until the next allocation takes a step to another word (sc_step): most often a free comes
 * first and gives the word a slot again, and the cursor is back. A free into the cursor's word needs nothing of the
 * summary, since until that step
 *     the summary has the bits of the words that are not empty, and that of next_word
 * which sc_settle brings down to the former, for whoever is about to need that. A free below next moves the cursor
 * back, and a step is to the lowest word: so the lowest slots of the current slab go out first, but that a word which
 * was used up and gets a slot before the step comes before what was freed in others meanwhile.
 *
 * But where the zone's `cursors_lag`, as those of threads' heaps do, frees leave the cursor alone: whether one is in
 * the current slab, and below next, nobody can foresee, and a branch that is mispredicted costs more than the rest of a
 * free. When the cursor's word is used up the next above follows that has a slot, and the lowest after the last: the
 * longer ago a word was used up the more slots it has gathered, and the fewer steps of the cursor they cost. But if
 * that next one is free as a whole the lowest follows: a slab with much room touches little of it. The price is order:
 * objects made one after another, with short-lived ones between them, no longer lie one after another.
 *
 * Random start: an empty slab, not a deep one, that becomes current is first filled from a random slot on, one of the
 * last START_REACH of its first word: survivors at a regular stride then do not lie at the same offsets in all slabs.
 * (Not of any word: that would lead once more through the middle of the slab, and whoever goes through all objects in
 * the order of their making, as CPython's collector does, waits where that order is not the addresses'.) It is a matter
 * of the cursor alone: while `is_starting`, the slab's summary has the other words, and the first one after a free in
 * it; the first is served bit by bit (its `start_bits`, by sc_allocate_slow, since the hot path knows only lowest
 * bits), and next may be NO_SLOT meanwhile. When all that is used up the summary becomes whole.
 *
 * The hot paths call nothing but at their end.
 */
#ifndef SLABMALLOC_ZONE_SC_H
#define SLABMALLOC_ZONE_SC_H

#include "base/count.h"
#include "base/thread.h"
#include "slab/slab.h"
#include "slabmalloc.h"
#include "zone/registry.h"

#define NO_SLOT 0
#define NO_PAGE UINTPTR_MAX

struct slabmalloc_sc {
    /* One line has all that either hot path writes. */
    uintptr_t next;
    word *next_word;
    uint64_t next_index;
    uintptr_t next_base;
    uintptr_t current_page; /* NO_PAGE: there is no current slab */
    word *current_local;
    _Atomic uint64_t served; /* objects handed out so far; read by anyone */
    uint64_t object_bytes;   /* as in geometry */

    /* One that never changes, up to the geometry's shape: freers read it, and do not meet the owner's writes there. */
    struct slabmalloc_zone *zone;
    uintptr_t offset_mask; /* the rest of an address on a page of this class */
    slab_geometry geometry;

    slab *_Atomic current; /* who inspects a slab reads it without owning it */
    uint32_t index;        /* of the class */
    uint32_t bands;        /* bit b: lists[b] has a slab */
    uint32_t forks;        /* zone.forks, when it was last looked at */
    uint64_t start_bits;   /* random start */
    bool random_start, is_starting;
    slab *lists[SLAB_CHAINS]; /* fronts */
    slab *backs[SLAB_BANDS];  /* of a band that is not empty */
    slab *spare;              /* records without a page, by next: a record serves one class, for ever */
    size_t pages;             /* slabs of this class */
    uint64_t pages_taken, pages_returned, late_double_frees;
    _Atomic uint64_t remote_frees; /* read by anyone */

    /* Slabs with remote frees to collect, a lock-free stack: others push, the owner takes all. On a line of its own. */
    _Alignas(CACHE_LINE_BYTES) slab *_Atomic pending;
};

_Static_assert(offsetof(slabmalloc_sc, zone) == CACHE_LINE_BYTES, "the hot line");
_Static_assert(offsetof(slabmalloc_sc, geometry.object_bytes) == 2 * CACHE_LINE_BYTES, "the line that never changes");

ALWAYS_INLINE slab *sc_current(const slabmalloc_sc *sc)
{
    return atomic_load_explicit(&sc->current, memory_order_relaxed);
}

void sc_init(slabmalloc_sc *sc, struct slabmalloc_zone *zone, uint32_t index, const slab_geometry *geometry);

/* The slab, which has been formatted or restored, joins the allocator: its list follows from its free count. */
void sc_add(slabmalloc_sc *sc, slab *s);
/* A slab that is empty leaves the allocator; NULL: there is none. */
slab *sc_remove_empty(slabmalloc_sc *sc);
/* Any slab leaves the allocator; NULL: there is none. */
slab *sc_remove_any(slabmalloc_sc *sc);
/* `count` slots of `s` have become free in its local set, all at once. */
void sc_note_collected(slabmalloc_sc *sc, slab *s, uint32_t count);

/* Objects live in `s`, by the owner's knowledge. */
uint32_t sc_live(const slabmalloc_sc *sc, const slab *s);
/* Is there a current slab, and no object live in it, by the owner's knowledge? */
bool sc_current_is_empty(const slabmalloc_sc *sc);
/* A cursor whose word is used up leaves it: the summary is that of the words. */
void sc_settle(slabmalloc_sc *sc);
/* The cursor to the lowest slot of the current slab's local set. */
void sc_seek_lowest(slabmalloc_sc *sc);
/* Calls visit for every slab, current included. */
void sc_for_each(const slabmalloc_sc *sc, void (*visit)(void *context, slab *s), void *context);

/* The cursor to the lowest slot in its word, which is `bits`, and not empty. */
ALWAYS_INLINE void sc_cursor_to_lowest(slabmalloc_sc *sc, uint64_t bits)
{
    sc->next_index = word_lowest(bits);
    sc->next = sc->next_base + sc->next_index * sc->object_bytes;
}

/* The cursor to the lowest slot in word `at` of the current slab's local set: `w`, which is not empty. */
ALWAYS_INLINE void sc_cursor_set(slabmalloc_sc *sc, word *w, size_t at)
{
    sc->next_word = w;
    sc->next_base = sc->current_page + at * WORD_BITS * sc->object_bytes;
    sc_cursor_to_lowest(sc, word_get(w));
}

/* ---- allocate ------------------------------------------------------------------------------------------ */

NOINLINE void *sc_allocate_slow(slabmalloc_sc *sc);

/* The word to go on with, of those in `summary`, which is not empty, after that `at`: see above. */
ALWAYS_INLINE size_t sc_word_after(const slabmalloc_sc *sc, uint64_t summary, size_t at, bool lags)
{
    size_t lowest = word_lowest(summary);
    uint64_t above = summary & ~UINT64_C(1) << at;
    if (!lags || above == 0)
        return lowest;
    size_t next = word_lowest(above);
    return word_get(&sc->current_local[next]) != UINT64_MAX ? next : lowest;
}

/* The cursor, whose word is used up, to another; returns its slot, or NO_SLOT: it takes more to find one
 * (sc_allocate_slow). `lags`: the zone's cursors do. Not if the slab is deep. */
ALWAYS_INLINE uintptr_t sc_step(slabmalloc_sc *sc, bool lags)
{
    word *w = sc->next_word;
    if (UNLIKELY(w == NULL))
        return NO_SLOT;
    size_t at = (size_t)(w - sc->current_local);
    slab *current = sc_current(sc);
    uint64_t summary = current->summary;
    if (word_get(w) == 0)
        word_remove(&summary, at);
    current->summary = summary;
    if (UNLIKELY(summary == 0)) {
        sc->next_word = NULL;
        return NO_SLOT;
    }
    at = sc_word_after(sc, summary, at, lags);
    sc_cursor_set(sc, &sc->current_local[at], at);
    return sc->next;
}

/* Up to `count` objects, in the order of as many calls of sc_allocate; returns how many. */
size_t sc_allocate_many(slabmalloc_sc *sc, void **objects, size_t count);

/* The object at the cursor, which is sc->next and no NO_SLOT. */
ALWAYS_INLINE void *sc_allocate_next(slabmalloc_sc *sc, uintptr_t object)
{
    count_add(&sc->served, 1);
    uint64_t bits = word_get(sc->next_word);
    word_remove(&bits, sc->next_index);
    word_set(sc->next_word, bits);
    if (UNLIKELY(bits == 0)) {
        sc->next = NO_SLOT;
        return (void *)object;
    }
    sc_cursor_to_lowest(sc, bits);
    __builtin_prefetch((void *)sc->next, 1); /* who gets it will write to it */
    return (void *)object;
}

ALWAYS_INLINE void *sc_allocate(slabmalloc_sc *sc)
{
    uintptr_t object = sc->next;
    return UNLIKELY(object == NO_SLOT) ? sc_allocate_slow(sc) : sc_allocate_next(sc, object);
}

/* The cursor to a slot of its word that has become free, if it lies below, or there is none. */
ALWAYS_INLINE void sc_cursor_back(slabmalloc_sc *sc, uintptr_t object, size_t index)
{
    if (object <= sc->next - 1) { /* NO_SLOT - 1 is above all */
        sc->next = object;
        sc->next_index = index;
    }
}

/* ---- deallocate ---------------------------------------------------------------------------------------- */

/* Each checks all there is to check, and changes nothing if the free is not right. */

/* All or nothing; *bad_index is set if there is an error. [owner] */
slabmalloc_status sc_deallocate_many(slabmalloc_sc *sc, void *const *objects, size_t count, size_t *bad_index);
/* A free that is not on the current slab's page; the same where the record at that page's home is another one's.
 * [owner] */
NOINLINE slabmalloc_status sc_free_elsewhere(slabmalloc_sc *sc, uintptr_t object);
NOINLINE slabmalloc_status sc_free_away_from_home(slabmalloc_sc *sc, uintptr_t object);
/* What is wrong with a free on a page that is not this allocator's. */
NOINLINE slabmalloc_status sc_diagnose(const slabmalloc_sc *sc, uintptr_t object);
/* The rest of a free of slot `index` in the current slab while a slab of the allocator is on the stack. */
NOINLINE slabmalloc_status sc_free_while_pending(slabmalloc_sc *sc, uintptr_t object, size_t index);
/* The slot's bit is set in the current slab, the first of its word or below the cursor: summary and cursor follow. */
NOINLINE slabmalloc_status sc_free_in_other_word(slabmalloc_sc *sc, uintptr_t object, size_t index);
/* The rest of a free of slot `index` in a slab that is not current, but asks for attention. */
NOINLINE slabmalloc_status sc_free_with_attention(slabmalloc_sc *sc, slab *s, size_t index);
/* The slab has no room left on its list: on to another one. */
NOINLINE slabmalloc_status sc_relist(slabmalloc_sc *sc, slab *s);

/* The slot that begins at `offset` in a slab, or SIZE_MAX. */
ALWAYS_INLINE size_t sc_slot_at(const slab_geometry *g, uintptr_t offset)
{
    quotient slot = divide(offset, g->reciprocal, g->slots_bound);
    return LIKELY(slot.is_within) ? slot.value : SIZE_MAX;
}

/* Frees `object`, which lies at `offset` of the current slab's page. [owner] */
ALWAYS_INLINE slabmalloc_status sc_free_in_current(slabmalloc_sc *sc, uintptr_t object, uintptr_t offset)
{
    quotient slot = divide(offset, sc->geometry.reciprocal, sc->geometry.slots_bound);
    if (UNLIKELY(!slot.is_within))
        return SLABMALLOC_FREE_INTERIOR;
    word *w = &sc->current_local[slot.value / WORD_BITS];
    uint64_t old = word_get(w), bits = old | UINT64_C(1) << (slot.value % WORD_BITS);
    if (UNLIKELY(bits == old))
        return SLABMALLOC_FREE_DOUBLE;
    /* Nothing freed remotely waits to be collected unless a slab is on the stack. */
    if (UNLIKELY(atomic_load_explicit(&sc->pending, memory_order_relaxed) != NULL))
        return sc_free_while_pending(sc, object, slot.value);
    word_set(w, bits);
    if (LIKELY(w == sc->next_word))
        sc_cursor_back(sc, object, slot.value);
    else if (old == 0 || object < sc->next)
        return sc_free_in_other_word(sc, object, slot.value);
    return SLABMALLOC_OK;
}

/* Frees the object at `offset` of slab `s` of this allocator, which is not current. [owner] */
ALWAYS_INLINE slabmalloc_status sc_free_in_listed(slabmalloc_sc *sc, slab *s, uintptr_t offset)
{
    quotient slot = divide(offset, sc->geometry.reciprocal, sc->geometry.slots_bound);
    if (UNLIKELY(!slot.is_within))
        return SLABMALLOC_FREE_INTERIOR;
    word *w = &s->local[slot.value / WORD_BITS];
    uint64_t bits = word_get(w);
    if (UNLIKELY(word_add(&bits, slot.value)))
        return SLABMALLOC_FREE_DOUBLE;
    if (UNLIKELY(slab_wants_attention(s)))
        return sc_free_with_attention(sc, s, slot.value);
    word_set(w, bits);
    word_add(&s->summary, slot.value / WORD_BITS); /* whether it was or not: nobody could predict that branch */
    if (UNLIKELY(--s->room == 0))
        return sc_relist(sc, s);
    return SLABMALLOC_OK;
}

/* Frees `object`, wherever it is. [owner] */
ALWAYS_INLINE slabmalloc_status sc_deallocate_owned(slabmalloc_sc *sc, void *pointer)
{
    uintptr_t object = (uintptr_t)pointer, page = object & ~sc->offset_mask;
    return page == sc->current_page ? sc_free_in_current(sc, object, object - page) : sc_free_elsewhere(sc, object);
}

#endif
