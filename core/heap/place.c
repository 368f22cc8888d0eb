/* SPDX-License-Identifier: MIT
 *
 * What is at an address, floor 3, for those who have to say what is wrong with it.
 */
#include "heap/hardened.h"

static heap_place in_slab(const slab *s, uintptr_t address)
{
    const slab_geometry *g = &s->sc->geometry;
    const word *remote = slab_remote(s, g);
    size_t index = min_size((address - slab_page(s)) / g->object_bytes, g->capacity);
    uint32_t free_count = bitset_count(&g->shape, s->local) + bitset_count(&g->shape, remote);
    bool is_slot = index < g->capacity;
    return (heap_place){
        .kind = is_slot ? HEAP_SLOT : HEAP_TAIL,
        .object = is_slot ? (void *)(slab_page(s) + index * g->object_bytes) : NULL,
        .object_bytes = g->object_bytes,
        .is_live = is_slot && !bitset_has(s->local, index) && !bitset_has(remote, index),
        .slot_index = index,
        .capacity = g->capacity,
        .live_count = g->capacity - min_size(free_count, g->capacity),
        .is_current = sc_current(s->sc) == s,
    };
}

/* What waits in quarantine is live to its slab alone: its seal says that it was freed. [space.lock] */
static void correct_hardened(space *s, const slab *found, heap_place *place)
{
    const slab_geometry *g = &found->sc->geometry;
    const word *remote = slab_remote(found, g);
    for (size_t index = 0; index < g->capacity; index++) {
        bool is_taken = !bitset_has(found->local, index) && !bitset_has(remote, index);
        const void *object = (const void *)(slab_page(found) + index * g->object_bytes);
        if (!is_taken || !hardened_is_freed(s, object))
            continue;
        place->live_count -= place->live_count > 0;
        place->is_live = place->is_live && object != place->object;
    }
}

/* Where no slab is. */
static heap_place in_range(space *s, const range *r, uintptr_t address)
{
    const arena *a = &r->arena;
    size_t unit = range_unit_of(r, address), chunk = unit / ARENA_CHUNK_UNITS;
    pthread_mutex_lock(&s->lock);
    bool is_used = chunk < arena_fresh(a);
    bool is_resting = is_used && (a->resting[chunk] >> unit % ARENA_CHUNK_UNITS & 1) != 0;
    pthread_mutex_unlock(&s->lock);
    return (heap_place){.kind = is_resting ? HEAP_PAGE_RESTING : is_used ? HEAP_PAGE_PURGED : HEAP_PAGE_UNUSED};
}

static heap_place in_large(space *s, uintptr_t address)
{
    static const heap_place_kind kinds[] = {
        [LARGE_UNKNOWN] = HEAP_NOWHERE, [LARGE_LIVE] = HEAP_LARGE,        [LARGE_RESTING] = HEAP_LARGE_RESTING,
        [LARGE_GONE] = HEAP_LARGE_GONE, [LARGE_MOVED] = HEAP_LARGE_MOVED,
    };
    uintptr_t begin;
    size_t bytes;
    large_state state = large_inspect(&s->large, address, &begin, &bytes);
    return (heap_place){
        .kind = kinds[state], .object = (void *)begin, .object_bytes = bytes, .is_live = state == LARGE_LIVE};
}

heap_place heap_inspect(space *s, const void *pointer)
{
    uintptr_t address = (uintptr_t)pointer;
    pthread_mutex_lock(&s->lock); /* a heap does not end, and take the slab's record with it */
    const slab *found = space_slab_at(s, address);
    heap_place place = {.kind = HEAP_NOWHERE};
    if (found != NULL) {
        place = in_slab(found, address);
        if (s->options.is_hardened && !heap_slab_is_nothing(found))
            correct_hardened(s, found, &place);
    }
    pthread_mutex_unlock(&s->lock);
    if (found != NULL)
        return place;
    return space_holds(s, address) ? in_range(s, space_range_of(s, address), address) : in_large(s, address);
}
