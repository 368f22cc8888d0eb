/* SPDX-License-Identifier: MIT
 *
 * A zone: its life, and objects by layout. The hot paths it calls are in sc.h; pages come and go in pages.c, statistics
 * and audit have files of their own.
 */
#include "zone/zone.h"

#include "base/check.h"
#include "zone/remote.h"

/* ---- life ---------------------------------------------------------------------------------------------- */

slabmalloc_zone_options slabmalloc_zone_options_default(void)
{
    return (slabmalloc_zone_options){.classes = slabmalloc_size_classes_default()};
}

static uint32_t granules(const slabmalloc_size_classes *classes)
{
    return (uint32_t)min_size(classes->sizes[classes->count - 1], ZONE_TABLE_BYTES) / SLABMALLOC_GRANULE_BYTES;
}

static void fill_tables(slabmalloc_zone *zone, uint8_t *class_table)
{
    const slabmalloc_size_classes *classes = &zone->classes;
    zone->class_table = class_table;
    zone->max_bytes = classes->sizes[classes->count - 1];
    zone->small_bytes = min_size(zone->max_bytes, ZONE_SMALL_BYTES);
    for (uint32_t granule = 0, i = 0; granule <= granules(classes); granule++) {
        i += granule * SLABMALLOC_GRANULE_BYTES > classes->sizes[i];
        class_table[granule] = (uint8_t)i;
        if (granule > 0 && granule <= ZONE_SMALL_BYTES / SLABMALLOC_GRANULE_BYTES)
            zone->small_table[granule - 1] = (uint32_t)((char *)&zone->sc[i] - (char *)zone);
    }
}

/* Each class has to fit before the guard. */
static bool is_guard_valid(const slabmalloc_zone_options *options)
{
    const slabmalloc_size_classes *classes = &options->classes;
    bool is_valid = options->guard_bytes == 0 || options->metadata_apart;
    for (uint32_t i = 0; is_valid && i < classes->count; i++)
        is_valid = (uint64_t)classes->sizes[i] + options->guard_bytes <= sizeclass_page_bytes(classes, i);
    return is_valid;
}

slabmalloc_zone *slabmalloc_zone_create(const slabmalloc_zone_options *options)
{
    const slabmalloc_size_classes *classes = &options->classes;
    if (!slabmalloc_size_classes_are_valid(classes) || !is_guard_valid(options))
        return NULL;
    store store;
    store_init(&store, options->guard_bytes > 0);
    slabmalloc_zone *zone = store_take(&store, sizeof(slabmalloc_zone) + classes->count * sizeof(slabmalloc_sc));
    uint8_t *table = zone == NULL ? NULL : store_take(&store, granules(classes) + 1);
    if (table == NULL) {
        store_end(&store);
        return NULL;
    }
    zone->classes = *classes;
    fill_tables(zone, table);
    zone->metadata_apart = options->metadata_apart;
    zone->random_start = options->random_start;
    zone->random_state = hash_multiply(options->seed) | 1;
    zone->has_pager = options->pager != NULL;
    if (zone->has_pager)
        zone->pager = *options->pager;
    for (uint32_t i = 0; i < classes->count; i++) {
        slab_geometry geometry = slab_geometry_of(classes->sizes[i], sizeclass_page_bytes(classes, i),
                                                  options->metadata_apart, options->guard_bytes);
        sc_init(&zone->sc[i], zone, i, &geometry);
    }
    zone->store = store;
    if (!registry_init(&zone->registry, &zone->store, min_size(classes->base_page_bytes, classes->large_page_bytes))) {
        store = zone->store;
        store_end(&store);
        return NULL;
    }
    atomic_init(&zone->owner, options->unowned ? THREAD_UNOWNED : thread_self());
    return zone;
}

void slabmalloc_zone_adopt(slabmalloc_zone *zone)
{
    atomic_store_explicit(&zone->owner, thread_self(), memory_order_relaxed);
}

void zone_note_fork(slabmalloc_zone *zone, size_t bytes)
{
    zone->forks++;
    zone->fresh_left_bytes = zone->fresh_most_bytes = bytes;
}

static void zone_end(slabmalloc_zone *zone)
{
    store store = zone->store; /* the zone itself lies in it */
    store_end(&store);
}

void slabmalloc_zone_destroy(slabmalloc_zone *zone)
{
    for (uint32_t i = 0; i < zone->classes.count; i++) {
        slabmalloc_sc *sc = &zone->sc[i];
        for (slab *s; (s = sc_remove_any(sc)) != NULL;) {
            slab_wipe(&sc->geometry, slab_page(s));
            if (zone->has_pager)
                zone->pager.release(zone->pager.context, (void *)slab_page(s), sc->geometry.page_bytes);
        }
    }
    zone_end(zone);
}

void slabmalloc_zone_detach(slabmalloc_zone *zone,
                            void (*give_back)(void *context, void *page, size_t page_bytes, size_t live), void *context)
{
    slabmalloc_zone_collect(zone);
    for (uint32_t i = 0; i < zone->classes.count; i++) {
        slabmalloc_sc *sc = &zone->sc[i];
        for (slab *s; (s = sc_remove_any(sc)) != NULL;) {
            size_t live = sc_live(sc, s);
            if (live == 0)
                slab_wipe(&sc->geometry, slab_page(s));
            if (give_back != NULL)
                give_back(context, (void *)slab_page(s), sc->geometry.page_bytes, live);
            else if (zone->has_pager)
                zone->pager.release(zone->pager.context, (void *)slab_page(s), sc->geometry.page_bytes);
        }
    }
    zone_end(zone);
}

/* ---- layouts ------------------------------------------------------------------------------------------- */

slabmalloc_sc *zone_sc_search(slabmalloc_zone *zone, size_t size)
{
    uint32_t low = 0, high = zone->classes.count - 1; /* the answer is in low ... high */
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (zone->classes.sizes[middle] < size)
            low = middle + 1;
        else
            high = middle;
    }
    return &zone->sc[low];
}

slabmalloc_sc *zone_sc_slow(slabmalloc_zone *zone, size_t size, size_t align)
{
    if (size == 0 || size > zone->max_bytes || !is_power_of_two(align))
        return NULL;
    slabmalloc_sc *sc = zone_sc_of_size(zone, size), *end = &zone->sc[zone->classes.count];
    while (sc < end && sc->geometry.object_bytes % align != 0)
        sc++;
    return sc < end ? sc : NULL;
}

int slabmalloc_zone_class_of(const slabmalloc_zone *zone, size_t size, size_t align)
{
    const slabmalloc_sc *sc = zone_sc((slabmalloc_zone *)zone, size, align);
    return sc == NULL ? -1 : (int)sc->index;
}

const slabmalloc_size_classes *slabmalloc_zone_classes(const slabmalloc_zone *zone) { return &zone->classes; }

slabmalloc_sc *slabmalloc_zone_sc(slabmalloc_zone *zone, int class_index)
{
    return class_index < 0 || (uint32_t)class_index >= zone->classes.count ? NULL : &zone->sc[class_index];
}

/* ---- objects ------------------------------------------------------------------------------------------- */

/* For each hot function, the same for the layouts that zone_sc_fast leaves out: called at its end, so that it has no
 * frame. */
static NOINLINE void *allocate_slow(slabmalloc_zone *zone, size_t size, size_t align)
{
    slabmalloc_sc *sc = zone_sc_slow(zone, size, align);
    return sc == NULL ? NULL : sc_allocate(sc);
}

void *slabmalloc_zone_allocate(slabmalloc_zone *zone, size_t size, size_t align)
{
    slabmalloc_sc *sc = zone_sc_fast(zone, size, align);
    if (UNLIKELY(sc == NULL))
        return allocate_slow(zone, size, align);
    return sc_allocate(sc);
}

static NOINLINE slabmalloc_status deallocate_owned_slow(slabmalloc_zone *zone, void *object, size_t size, size_t align)
{
    slabmalloc_sc *sc = zone_sc_slow(zone, size, align);
    return sc == NULL ? SLABMALLOC_INVALID_LAYOUT : sc_deallocate_owned(sc, object);
}

slabmalloc_status slabmalloc_zone_deallocate_owned(slabmalloc_zone *zone, void *object, size_t size, size_t align)
{
    slabmalloc_sc *sc = zone_sc_fast(zone, size, align);
    if (UNLIKELY(sc == NULL))
        return deallocate_owned_slow(zone, object, size, align);
    return sc_deallocate_owned(sc, object);
}

static NOINLINE slabmalloc_status deallocate_remote(slabmalloc_zone *zone, void *object, size_t size, size_t align)
{
    slabmalloc_sc *sc = zone_sc(zone, size, align);
    return sc == NULL ? SLABMALLOC_INVALID_LAYOUT : remote_deallocate(sc, object);
}

slabmalloc_status slabmalloc_zone_deallocate(slabmalloc_zone *zone, void *object, size_t size, size_t align)
{
    if (UNLIKELY(!zone_is_owner(zone)))
        return deallocate_remote(zone, object, size, align);
    slabmalloc_sc *sc = zone_sc_fast(zone, size, align);
    if (UNLIKELY(sc == NULL))
        return deallocate_owned_slow(zone, object, size, align);
    return sc_deallocate_owned(sc, object);
}

size_t slabmalloc_zone_allocate_many(slabmalloc_zone *zone, size_t size, size_t align, void **objects, size_t count)
{
    slabmalloc_sc *sc = zone_sc(zone, size, align);
    return sc == NULL ? 0 : sc_allocate_many(sc, objects, count);
}

slabmalloc_status slabmalloc_zone_deallocate_many(slabmalloc_zone *zone, void *const *objects, size_t count,
                                                  size_t size, size_t align, size_t *bad_index)
{
    size_t ignored;
    bad_index = bad_index == NULL ? &ignored : bad_index;
    *bad_index = 0;
    slabmalloc_sc *sc = zone_sc(zone, size, align);
    return sc == NULL ? SLABMALLOC_INVALID_LAYOUT : sc_deallocate_many(sc, objects, count, bad_index);
}

/* ---- what is there --------------------------------------------------------------------------------------- */

slab *zone_find(const slabmalloc_zone *zone, uintptr_t address)
{
    size_t sizes[] = {zone->classes.base_page_bytes, zone->classes.large_page_bytes};
    for (int i = 0; i < 2; i++) {
        slab *s = registry_find(&zone->registry, address & ~(uintptr_t)(sizes[i] - 1));
        if (s != &registry_nothing && address - slab_page(s) < s->sc->geometry.page_bytes)
            return s;
    }
    return NULL;
}

size_t slabmalloc_zone_collect(slabmalloc_zone *zone)
{
    size_t count = 0;
    for (uint32_t i = 0; i < zone->classes.count; i++)
        count += remote_collect(&zone->sc[i]);
    return count;
}

slabmalloc_slot_info slabmalloc_zone_inspect(slabmalloc_zone *zone, const void *address)
{
    slab *s = zone_find(zone, (uintptr_t)address);
    if (s == NULL)
        return (slabmalloc_slot_info){.page = NULL};
    const slab_geometry *g = &s->sc->geometry;
    uintptr_t page = slab_page(s);
    size_t index = min_size(divide((uintptr_t)address - page, g->reciprocal, 0).value, g->capacity);
    return (slabmalloc_slot_info){
        .page = (void *)page,
        .page_bytes = g->page_bytes,
        .object_bytes = g->object_bytes,
        .slot_index = index,
        .capacity = g->capacity,
        .object = (void *)(page + index * g->object_bytes),
        .is_live = index < g->capacity && !bitset_has(s->local, index) && !bitset_has(slab_remote(s, g), index),
    };
}
