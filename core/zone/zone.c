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

size_t zone_class_table_bytes(const slabmalloc_size_classes *classes) { return granules(classes) + 1; }

void zone_fill_class_table(const slabmalloc_size_classes *classes, uint8_t *class_table)
{
    for (uint32_t granule = 0, i = 0; granule <= granules(classes); granule++) {
        i += granule * SLABMALLOC_GRANULE_BYTES > classes->sizes[i];
        class_table[granule] = (uint8_t)i;
    }
}

/* Where the class's allocator lies from now on. */
static void set_place(slabmalloc_zone *zone, uint32_t class_index, size_t offset)
{
    zone->sc_table[class_index] = (uint16_t)(offset / CACHE_LINE_BYTES);
    uint32_t end = (uint32_t)min_size(zone->classes->sizes[class_index], ZONE_SMALL_BYTES) / SLABMALLOC_GRANULE_BYTES;
    for (uint32_t granule = end; granule > 0 && zone->class_table[granule] == class_index; granule--)
        zone->small_table[granule - 1] = (uint32_t)offset;
}

_Static_assert(sizeof(slabmalloc_zone) + SLABMALLOC_MAX_CLASSES * sizeof(slabmalloc_sc) <=
                   UINT16_MAX * (size_t)CACHE_LINE_BYTES,
               "sc_table reaches all of them");

/* Each class has to fit before the guard. */
static bool is_guard_valid(const slabmalloc_zone_options *options)
{
    const slabmalloc_size_classes *classes = &options->classes;
    bool is_valid = options->guard_bytes == 0 || options->metadata_apart;
    for (uint32_t i = 0; is_valid && i < classes->count; i++)
        is_valid = (uint64_t)classes->sizes[i] + options->guard_bytes <= sizeclass_page_bytes(classes, i);
    return is_valid;
}

size_t zone_bytes(const slabmalloc_size_classes *classes)
{
    return sizeof(slabmalloc_zone) + classes->count * sizeof(slabmalloc_sc);
}

slabmalloc_zone *zone_create_in(store *store, const slabmalloc_zone_options *options,
                                const slabmalloc_size_classes *classes, const uint8_t *class_table)
{
    slabmalloc_zone *zone = store_take(store, zone_bytes(classes));
    if (zone == NULL)
        return NULL;
    zone->classes = classes;
    zone->class_table = class_table;
    zone->max_bytes = classes->sizes[classes->count - 1];
    zone->small_bytes = min_size(zone->max_bytes, ZONE_SMALL_BYTES);
    zone->guard_bytes = options->guard_bytes;
    zone->none_yet.next = NO_SLOT;
    zone->none_yet.index = classes->count;
    for (uint32_t i = 0; i < classes->count; i++)
        set_place(zone, i, offsetof(slabmalloc_zone, none_yet));
    zone->metadata_apart = options->metadata_apart;
    zone->random_start = options->random_start;
    zone->random_state = hash_multiply(options->seed) | 1;
    zone->has_pager = options->pager != NULL;
    if (zone->has_pager)
        zone->pager = *options->pager;
    atomic_init(&zone->sc_count, 0);
    atomic_init(&zone->owner, options->unowned ? THREAD_UNOWNED : thread_self());
    if (!registry_init(&zone->registry, store, min_size(classes->base_page_bytes, classes->large_page_bytes)))
        return NULL;
    zone->store = *store;
    zone->registry.store = &zone->store;
    return zone;
}

slabmalloc_sc *zone_sc_begin(slabmalloc_zone *zone, uint32_t class_index)
{
    uint32_t count = zone_sc_count(zone), page_bytes = sizeclass_page_bytes(zone->classes, class_index);
    slab_geometry geometry =
        slab_geometry_of(zone->classes->sizes[class_index], page_bytes, zone->metadata_apart, zone->guard_bytes);
    slabmalloc_sc *sc = &zone->sc[count];
    sc_init(sc, zone, class_index, &geometry);
    atomic_store_explicit(&zone->sc_count, count + 1, memory_order_release);
    set_place(zone, class_index, (size_t)((char *)sc - (char *)zone));
    return sc;
}

/* Where there are many zones somebody shares the tables among them (zone_create_in); a client's has its own. */
static slabmalloc_zone *create_in(store *store, const slabmalloc_zone_options *options)
{
    enum { ROOM_BYTES = 16 * 1024 }; /* for the first slabs */
    size_t table_bytes = zone_class_table_bytes(&options->classes);
    if (!store_reserve(store, zone_bytes(&options->classes) + sizeof(options->classes) + table_bytes + ROOM_BYTES,
                       false))
        return NULL;
    slabmalloc_size_classes *classes = store_take(store, sizeof(*classes));
    uint8_t *class_table = store_take(store, table_bytes);
    if (classes == NULL || class_table == NULL)
        return NULL;
    *classes = options->classes;
    zone_fill_class_table(classes, class_table);
    return zone_create_in(store, options, classes, class_table);
}

slabmalloc_zone *slabmalloc_zone_create(const slabmalloc_zone_options *options)
{
    if (!slabmalloc_size_classes_are_valid(&options->classes) || !is_guard_valid(options))
        return NULL;
    store store;
    store_init(&store, options->guard_bytes > 0);
    slabmalloc_zone *zone = create_in(&store, options);
    if (zone == NULL)
        store_end(&store);
    for (uint32_t i = 0; zone != NULL && i < zone->classes->count; i++)
        zone_sc_begin(zone, i);
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
    for (uint32_t i = 0; i < zone_sc_count(zone); i++) {
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
    for (uint32_t i = 0; i < zone_sc_count(zone); i++) {
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

uint32_t zone_class_search(const slabmalloc_zone *zone, size_t size)
{
    uint32_t low = 0, high = zone->classes->count - 1; /* the answer is in low ... high */
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (zone->classes->sizes[middle] < size)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int slabmalloc_zone_class_of(const slabmalloc_zone *zone, size_t size, size_t align)
{
    if (size == 0 || size > zone->max_bytes || !is_power_of_two(align))
        return -1;
    const slabmalloc_size_classes *classes = zone->classes;
    uint32_t i = zone_class_of_size(zone, size);
    while (i < classes->count && classes->sizes[i] % align != 0)
        i++;
    return i < classes->count ? (int)i : -1;
}

slabmalloc_sc *zone_sc_slow(slabmalloc_zone *zone, size_t size, size_t align)
{
    return slabmalloc_zone_sc(zone, slabmalloc_zone_class_of(zone, size, align));
}

const slabmalloc_size_classes *slabmalloc_zone_classes(const slabmalloc_zone *zone) { return zone->classes; }

slabmalloc_sc *slabmalloc_zone_sc(slabmalloc_zone *zone, int class_index)
{
    bool is_class = class_index >= 0 && (uint32_t)class_index < zone->classes->count;
    return is_class ? zone_sc_of_class(zone, (uint32_t)class_index) : NULL;
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
    size_t sizes[] = {zone->classes->base_page_bytes, zone->classes->large_page_bytes};
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
    for (uint32_t i = 0; i < zone_sc_count(zone); i++)
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
