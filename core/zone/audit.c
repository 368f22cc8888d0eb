/* SPDX-License-Identifier: MIT
 *
 * The audit, floor 2: every invariant that sc.h, slab.h, registry.h and zone.h state, examined from outside. Nothing is
 * changed but what cursors put off (sc_settle), so it may run after any error.
 */
#include "zone/zone.h"

typedef struct auditing {
    const slabmalloc_sc *sc;
    size_t slabs;
    const char *fault;
} auditing;

static void fail_unless(auditing *a, bool holds, const char *fault)
{
    if (!holds && a->fault == NULL)
        a->fault = fault;
}

static void audit_slab(void *context, slab *s)
{
    auditing *a = context;
    const slabmalloc_sc *sc = a->sc;
    const slab_geometry *g = &sc->geometry;
    a->slabs++;
    fail_unless(a, s->sc == sc, "a slab is on a list of another class");
    fail_unless(a, registry_find(&sc->zone->registry, slab_page(s)) == s, "a slab is not in the registry");
    bool is_starting = s == sc_current(sc) && sc->is_starting;
    uint64_t whole = local_summary(s->local, g);
    fail_unless(a, ((s->summary ^ whole) & ~(is_starting ? word_bit(0) : 0)) == 0 && (s->summary & ~whole) == 0,
                "a slab's summary is not that of its words");
    fail_unless(a, slab_is_valid(s, g), "a slab's bitsets or trailer are not valid");
    fail_unless(a, !slab_is_deep(g) || slab_wants_attention(s), "a free would miss the levels of a deep slab");
    if (s == sc_current(sc))
        return;
    uint32_t count = bitset_count(&g->shape, s->local);
    fail_unless(a, s->list < SLAB_LISTS && slab_free_count(s, g) == count,
                "a slab's free count is not the number of its free slots");
    fail_unless(a, s->list == slab_list_for(g, count), "a slab is on a list that does not fit its free count");
    fail_unless(a, s->room > 0, "a slab has passed the limit of its list");
    fail_unless(a,
                s->prev != NULL
                    ? s->prev->next == s
                    : sc->lists[s->list] == s || (s->list < SLAB_BANDS && sc->lists[SLAB_OLD + s->list] == s),
                "a list is not linked back");
}

static void audit_cursor(auditing *a)
{
    const slabmalloc_sc *sc = a->sc;
    const slab *s = sc_current(sc);
    if (s == NULL) {
        fail_unless(a, sc->next == NO_SLOT && sc->current_page == NO_PAGE, "there is a cursor, but no current slab");
        return;
    }
    fail_unless(a, s->list == SLAB_CURRENT && sc->current_page == slab_page(s) && sc->current_local == s->local,
                "the current slab is not the one of the cursor");
    if (sc->next_word == NULL) {
        fail_unless(a, sc->next == NO_SLOT, "the cursor is in no word");
        return;
    }
    size_t at = (size_t)(sc->next_word - s->local);
    bool is_word = at < bitset_words(&sc->geometry.shape);
    fail_unless(a, is_word && sc->next_base == slab_page(s) + at * WORD_BITS * sc->object_bytes,
                "the cursor's word is not one of the current slab");
    if (!is_word || sc->next == NO_SLOT)
        return;
    uint64_t bits = word_get(sc->next_word);
    fail_unless(a,
                (bits & word_bit(sc->next_index)) != 0 &&
                    sc->next == sc->next_base + sc->next_index % WORD_BITS * sc->object_bytes,
                "the cursor is not on a free slot");
    fail_unless(a, sc->zone->cursors_lag || sc->next_index % WORD_BITS == word_lowest(bits),
                "the cursor is not on the lowest free slot of its word");
}

const char *slabmalloc_zone_audit(slabmalloc_zone *zone)
{
    size_t slabs = 0;
    for (uint32_t i = 0; i < zone_sc_count(zone); i++) {
        sc_settle(&zone->sc[i]);
        auditing a = {.sc = &zone->sc[i], .slabs = 0, .fault = NULL};
        sc_for_each(a.sc, audit_slab, &a);
        fail_unless(&a, a.slabs == a.sc->pages && a.slabs == a.sc->pages_taken - a.sc->pages_returned,
                    "the number of slabs is not the number of pages taken less those returned");
        for (uint32_t band = 0; band < SLAB_BANDS; band++)
            fail_unless(&a, (a.sc->lists[band] != NULL) == ((a.sc->bands >> band & 1) != 0),
                        "the map of bands is not right");
        audit_cursor(&a);
        if (a.fault != NULL)
            return a.fault;
        slabs += a.slabs;
    }
    return slabs == zone->registry.count ? NULL : "the registry holds pages that no class has";
}
