/* SPDX-License-Identifier: MIT
 *
 * Many objects of one class at once, floor 2: allocation by the word instead of by the bit, and frees that are all made
 * or none. What comes of it is what as many single calls would have made, to the order of the lists.
 */
#include "base/check.h"
#include "zone/zone.h"

size_t sc_allocate_many(slabmalloc_sc *sc, void **objects, size_t count)
{
    size_t done = 0;
    while (done < count) {
        if (sc->next == NO_SLOT) {
            void *object = sc_allocate_slow(sc);
            if (object == NULL)
                break;
            objects[done++] = object;
            continue;
        }
        uint64_t bits = word_get(sc->next_word);
        size_t before = done;
        for (; bits != 0 && done < count; bits &= bits - 1)
            objects[done++] = (void *)(sc->next_base + word_lowest(bits) * sc->object_bytes);
        count_add(&sc->served, done - before);
        word_set(sc->next_word, bits);
        if (bits == 0)
            sc->next = NO_SLOT;
        else
            sc_cursor_to_lowest(sc, bits);
    }
    return done;
}

/* The slab looked at last: neighbours in a list of objects are often neighbours in memory. */
typedef struct last_slab {
    uintptr_t page;
    slab *s;
} last_slab;

static inline slab *find(const slabmalloc_sc *sc, last_slab *last, uintptr_t page)
{
    if (page != last->page || last->s == NULL)
        *last = (last_slab){.page = page, .s = registry_probe(&sc->zone->registry, page)};
    return last->s;
}

/* Sets the bit of `object`, after every check, and nothing else: no count, no list, no cursor. */
static slabmalloc_status mark_free(slabmalloc_sc *sc, last_slab *last, uintptr_t object)
{
    uintptr_t page = object & ~sc->offset_mask;
    slab *s = find(sc, last, page);
    if (UNLIKELY(s->sc != sc))
        return sc_diagnose(sc, object);
    quotient slot = divide(object - page, sc->geometry.reciprocal, sc->geometry.slots_bound);
    if (UNLIKELY(!slot.is_within))
        return SLABMALLOC_FREE_INTERIOR;
    word *w = &s->local[slot.value / WORD_BITS];
    uint64_t old = word_get(w), bits = old | UINT64_C(1) << (slot.value % WORD_BITS);
    if (UNLIKELY(bits == old))
        return SLABMALLOC_FREE_DOUBLE;
    if (UNLIKELY((slab_tagged_zone(s) & SLAB_PENDING) != 0) && bitset_has(slab_remote(s, &sc->geometry), slot.value))
        return SLABMALLOC_FREE_DOUBLE;
    word_set(w, bits);
    if (UNLIKELY(old == 0))
        local_raise(s->local, &s->summary, &sc->geometry, slot.value / WORD_BITS);
    return SLABMALLOC_OK;
}

static void unmark_free(slabmalloc_sc *sc, last_slab *last, uintptr_t object)
{
    uintptr_t page = object & ~sc->offset_mask;
    slab *s = find(sc, last, page);
    size_t index = divide(object - page, sc->geometry.reciprocal, 0).value;
    word *w = &s->local[index / WORD_BITS];
    word_set(w, word_get(w) & ~word_bit(index));
    if (word_get(w) == 0 && w != sc->next_word)
        local_lower(s->local, &s->summary, &sc->geometry, index / WORD_BITS);
}

/* First every bit is set, which finds all that is wrong, repetitions too, and can be undone; then lists and cursor
 * follow. */
slabmalloc_status sc_deallocate_many(slabmalloc_sc *sc, void *const *objects, size_t count, size_t *bad_index)
{
    last_slab last = {.s = NULL};
    slabmalloc_status status = SLABMALLOC_OK;
    size_t done = 0;
    while (done < count && (status = mark_free(sc, &last, (uintptr_t)objects[done])) == SLABMALLOC_OK)
        done++;
    if (status != SLABMALLOC_OK) {
        *bad_index = done;
        while (done > 0)
            unmark_free(sc, &last, (uintptr_t)objects[--done]);
        return status;
    }
    ASSERT(sc->zone->watcher.drained == NULL); /* or a slab could leave in between */
    bool is_in_current = false;
    for (size_t i = 0; i < count; i++) {
        slab *s = find(sc, &last, (uintptr_t)objects[i] & ~sc->offset_mask);
        if (s == sc_current(sc))
            is_in_current = true;
        else if (--s->room == 0)
            sc_relist(sc, s);
    }
    if (is_in_current)
        sc_seek_lowest(sc);
    return SLABMALLOC_OK;
}
