/* SPDX-License-Identifier: MIT
 *
 * The remote-free protocol: the argument is in remote.h, with the names F1 ... C4 used here.
 */
#include "zone/remote.h"

#include "zone/zone.h"

/* F3. SLAB_PENDING is a hint for the owner's own frees, no part of the protocol. */
static void push_pending(slabmalloc_sc *sc, slab *s)
{
    slab_attend(s, &sc->geometry, SLAB_PENDING);
    slab *head = atomic_load_explicit(&sc->pending, memory_order_relaxed);
    do
        s->pending_next = head;
    while (!atomic_compare_exchange_weak_explicit(&sc->pending, &head, s, memory_order_release, memory_order_relaxed));
}

slabmalloc_status remote_free(slabmalloc_sc *sc, slab *s, uintptr_t offset)
{
    const slab_geometry *g = &sc->geometry;
    size_t index = sc_slot_at(g, offset);
    if (UNLIKELY(index >= g->shape.bits))
        return SLABMALLOC_FREE_INTERIOR;
    if (UNLIKELY(bitset_has(s->local, index)))
        return SLABMALLOC_FREE_DOUBLE;
    bitset_shared shared = bitset_share(&g->shape, slab_remote(s, g), index); /* F1, F2 */
    if (UNLIKELY(shared == BITSET_MEMBER))
        return SLABMALLOC_FREE_DOUBLE;
    if (shared == BITSET_BEGAN)
        push_pending(sc, s);
    return SLABMALLOC_OK;
}

slabmalloc_status remote_deallocate(slabmalloc_sc *sc, void *pointer)
{
    uintptr_t object = (uintptr_t)pointer, page = object & ~sc->offset_mask;
    slab *s = registry_find(&sc->zone->registry, page);
    if (UNLIKELY(s->sc != sc))
        return sc_diagnose(sc, object);
    return remote_free(sc, s, object - page);
}

typedef struct collecting {
    slab *s;
    const slab_geometry *geometry;
    uint64_t *summary;
    uint32_t count, doubles;
} collecting;

/* C4 found them free already: neither free could know of the other. */
static NOINLINE void note_doubles(collecting *c, size_t index, uint64_t bits)
{
    const zone_watcher *watcher = &c->s->sc->zone->watcher;
    c->doubles += word_count(bits);
    for (; watcher->doubled != NULL && bits != 0; bits &= bits - 1) {
        size_t slot = index * WORD_BITS + word_lowest(bits);
        watcher->doubled(watcher->context, (void *)(slab_page(c->s) + slot * c->geometry->object_bytes));
    }
}

static void take_bits(void *context, size_t index, uint64_t bits)
{
    collecting *c = context;
    word *w = &c->s->local[index];
    uint64_t old = word_get(w), fresh = bits & ~old;
    word_set(w, old | fresh);
    if (old == 0)
        local_raise(c->s->local, c->summary, c->geometry, index);
    c->count += word_count(fresh);
    if (UNLIKELY((bits & old) != 0))
        note_doubles(c, index, bits & old);
}

static uint32_t collect_slab(slab *s)
{
    slabmalloc_sc *sc = s->sc;
    slab_attend(s, &sc->geometry, 0);
    if (s->list == SLAB_UNUSED) /* only a free that is wrong, and races with reclaim, can have pushed it */
        return 0;
    collecting c = {.s = s, .geometry = &sc->geometry, .summary = &s->summary};
    bitset_take(&c.geometry->shape, slab_remote(s, c.geometry), take_bits, &c); /* C3, C4 */
    if (c.count > 0)
        sc_note_collected(sc, s, c.count);
    count_add(&sc->remote_frees, c.count);
    sc->late_double_frees += c.doubles;
    return c.count;
}

size_t remote_collect(slabmalloc_sc *sc)
{
    if (LIKELY(atomic_load_explicit(&sc->pending, memory_order_relaxed) == NULL))
        return 0;
    size_t count = 0;
    slab *s = atomic_exchange_explicit(&sc->pending, NULL, memory_order_acquire); /* C1 */
    while (s != NULL) {
        slab *next = s->pending_next;
        count += collect_slab(s);
        s = next;
    }
    return count;
}

void remote_forget_news(slabmalloc_sc *sc)
{
    if (atomic_load_explicit(&sc->pending, memory_order_relaxed) != NULL) /* else a forked child shares the memory on */
        atomic_store_explicit(&sc->pending, NULL, memory_order_relaxed);
}

void remote_tell_again(slab *s)
{
    const bitset_shape *shape = &s->sc->geometry.shape;
    word *remote = slab_remote(s, &s->sc->geometry);
    uint32_t words = bitset_words(shape);
    for (uint32_t i = 0; i < words; i++)
        if (word_get(&remote[i]) != 0) { /* in most slabs there is none, and nothing is written */
            bitset_summarize(shape, remote);
            if (word_get(&remote[words - 1]) != 0)
                push_pending(s->sc, s);
            return;
        }
}
