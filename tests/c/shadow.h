/* SPDX-License-Identifier: MIT
 *
 * A zone once more, as simply as can be: arrays of bytes and linked lists, no bitmaps. It predicts which address comes
 * next and what each call returns; the model test and the fuzzer compare the two step by step.
 *
 * Not predicted: in which order slabs that are collected together change lists. So remote frees are modelled one slab
 * at a time: `shadow_deallocate` with is_remote makes the caller collect before it frees in another slab of the class.
 */
#ifndef SHADOW_H
#define SHADOW_H

#include "fixture.h"

enum { SHADOW_BANDS = 4, SHADOW_EMPTY = SHADOW_BANDS, SHADOW_FULL, SHADOW_LISTS, SHADOW_CURRENT = SHADOW_LISTS };

typedef enum slot_state { SLOT_FREE, SLOT_LIVE, SLOT_REMOTE } slot_state;

typedef struct shadow_slab {
    char *page;
    uint32_t class_index;
    size_t object_bytes, page_bytes, capacity;
    size_t free_count;   /* slots that are SLOT_FREE */
    size_t remote_count; /* slots that are SLOT_REMOTE: freed, not collected */
    uint8_t *slots;      /* slot_state each */
    int list;
    struct shadow_slab *next, *prev; /* in its list */
    struct shadow_slab *all;         /* every slab of the zone */
} shadow_slab;

typedef struct shadow_class {
    shadow_slab *current;
    shadow_slab *front[SHADOW_LISTS];
    uint64_t pages_taken, pages_returned, remote_frees;
} shadow_class;

typedef struct shadow {
    slabmalloc_size_classes table;
    shadow_class classes[SLABMALLOC_MAX_CLASSES];
    shadow_slab *all;
    size_t slabs;
} shadow;

static inline shadow *shadow_new(const slabmalloc_size_classes *table)
{
    shadow *s = calloc(1, sizeof *s);
    REQUIRE(s != NULL);
    s->table = *table;
    return s;
}

static inline int shadow_class_of(const shadow *s, size_t size, size_t align)
{
    if (size == 0 || align == 0 || (align & (align - 1)) != 0 || size > s->table.sizes[s->table.count - 1])
        return -1;
    for (uint32_t i = 0; i < s->table.count;
         i++) /* align divides the class and size <= class: round_up(size) <= class */
        if (s->table.sizes[i] >= size && s->table.sizes[i] % align == 0)
            return (int)i;
    return -1;
}

/* ---- lists ---- */

static inline void shadow_push(shadow *s, shadow_slab *slab)
{
    slab->list = slab->free_count == 0                ? SHADOW_FULL
                 : slab->free_count == slab->capacity ? SHADOW_EMPTY
                                                      : (int)((slab->free_count * SHADOW_BANDS - 1) / slab->capacity);
    /* To the back of a band, to the front of the other lists. */
    shadow_slab **place = &s->classes[slab->class_index].front[slab->list];
    slab->prev = NULL;
    while (slab->list < SHADOW_EMPTY && *place != NULL) {
        slab->prev = *place;
        place = &(*place)->next;
    }
    slab->next = *place;
    if (*place != NULL)
        (*place)->prev = slab;
    *place = slab;
}

static inline void shadow_unlink(shadow *s, shadow_slab *slab)
{
    shadow_class *c = &s->classes[slab->class_index];
    if (slab->list == SHADOW_CURRENT) {
        c->current = NULL;
        return;
    }
    if (slab->prev != NULL)
        slab->prev->next = slab->next;
    else
        c->front[slab->list] = slab->next;
    if (slab->next != NULL)
        slab->next->prev = slab->prev;
}

/* After its free count has grown: to another list, if that is where it belongs now. */
static inline void shadow_relist(shadow *s, shadow_slab *slab)
{
    if (slab->list == SHADOW_CURRENT)
        return;
    int band = slab->free_count == slab->capacity ? SHADOW_EMPTY
                                                  : (int)((slab->free_count * SHADOW_BANDS - 1) / slab->capacity);
    if (band != slab->list) {
        shadow_unlink(s, slab);
        shadow_push(s, slab);
    }
}

static inline shadow_slab *shadow_find(const shadow *s, const void *address)
{
    for (shadow_slab *slab = s->all; slab != NULL; slab = slab->all)
        if ((uintptr_t)address >= (uintptr_t)slab->page &&
            (uintptr_t)address < (uintptr_t)slab->page + slab->page_bytes)
            return slab;
    return NULL;
}

static inline bool shadow_overlaps(const shadow *s, const void *page, size_t page_bytes)
{
    for (shadow_slab *slab = s->all; slab != NULL; slab = slab->all)
        if ((uintptr_t)page < (uintptr_t)slab->page + slab->page_bytes &&
            (uintptr_t)slab->page < (uintptr_t)page + page_bytes)
            return true;
    return false;
}

/* ---- pages ---- */

static inline shadow_slab *shadow_refill(shadow *s, int class_index, void *page)
{
    shadow_slab *slab = calloc(1, sizeof *slab);
    REQUIRE(slab != NULL);
    slab->page = page;
    slab->class_index = (uint32_t)class_index;
    slab->object_bytes = s->table.sizes[class_index];
    slab->page_bytes = class_page_bytes(&s->table, slab->class_index);
    slab->capacity = slab->free_count = page_layout_of(slab->object_bytes, slab->page_bytes).capacity;
    slab->slots = calloc(slab->capacity, 1);
    REQUIRE(slab->slots != NULL);
    slab->all = s->all;
    s->all = slab;
    s->slabs++;
    s->classes[class_index].pages_taken++;
    shadow_push(s, slab);
    return slab;
}

static inline void shadow_remove(shadow *s, shadow_slab *slab)
{
    shadow_unlink(s, slab);
    shadow_slab **link = &s->all;
    while (*link != slab)
        link = &(*link)->all;
    *link = slab->all;
    s->slabs--;
    s->classes[slab->class_index].pages_returned++;
    free(slab->slots);
    free(slab);
}

static inline void shadow_end(shadow *s)
{
    while (s->all != NULL)
        shadow_remove(s, s->all);
    free(s);
}

/* ---- allocate ---- */

/* Remote frees of a class; at most one slab has any. */
static inline size_t shadow_collect(shadow *s, int class_index)
{
    size_t count = 0;
    for (shadow_slab *slab = s->all; slab != NULL; slab = slab->all) {
        if (slab->class_index != (uint32_t)class_index || slab->remote_count == 0)
            continue;
        for (size_t i = 0; i < slab->capacity; i++)
            if (slab->slots[i] == SLOT_REMOTE)
                slab->slots[i] = SLOT_FREE;
        count += slab->remote_count;
        slab->free_count += slab->remote_count;
        slab->remote_count = 0;
        shadow_relist(s, slab);
    }
    s->classes[class_index].remote_frees += count;
    return count;
}

static inline size_t shadow_collect_all(shadow *s)
{
    size_t count = 0;
    for (int i = 0; i < (int)s->table.count; i++)
        count += shadow_collect(s, i);
    return count;
}

static inline shadow_slab *shadow_front(const shadow_class *c)
{
    for (int list = 0; list <= SHADOW_EMPTY; list++)
        if (c->front[list] != NULL)
            return c->front[list];
    return NULL;
}

/* True if the next allocation must come from a new page. Collects, as the zone does when it runs dry. */
static inline bool shadow_is_dry(shadow *s, int class_index)
{
    shadow_class *c = &s->classes[class_index];
    if (c->current != NULL && c->current->free_count > 0)
        return false;
    shadow_collect(s, class_index);
    return (c->current == NULL || c->current->free_count == 0) && shadow_front(c) == NULL;
}

/* The address that comes next, which is live from now on; NULL: out of memory. */
static inline void *shadow_allocate(shadow *s, int class_index)
{
    if (class_index < 0 || shadow_is_dry(s, class_index))
        return NULL;
    shadow_class *c = &s->classes[class_index];
    if (c->current == NULL || c->current->free_count == 0) {
        shadow_slab *chosen = shadow_front(c);
        shadow_unlink(s, chosen);
        if (c->current != NULL)
            shadow_push(s, c->current);
        chosen->list = SHADOW_CURRENT;
        c->current = chosen;
    }
    size_t slot = 0;
    while (c->current->slots[slot] != SLOT_FREE)
        slot++;
    c->current->slots[slot] = SLOT_LIVE;
    c->current->free_count--;
    return c->current->page + slot * c->current->object_bytes;
}

/* ---- deallocate ---- */

/* What a free must return; nothing changes. */
static inline slabmalloc_status shadow_judge(const shadow *s, const void *object, size_t size, size_t align)
{
    int class_index = shadow_class_of(s, size, align);
    if (class_index < 0)
        return SLABMALLOC_INVALID_LAYOUT;
    const shadow_slab *slab = shadow_find(s, object);
    if (slab == NULL)
        return SLABMALLOC_FREE_FOREIGN;
    if (slab->class_index != (uint32_t)class_index)
        return SLABMALLOC_FREE_WRONG_CLASS;
    size_t offset = (size_t)((const char *)object - slab->page);
    if (offset % slab->object_bytes != 0 || offset / slab->object_bytes >= slab->capacity)
        return SLABMALLOC_FREE_INTERIOR;
    return slab->slots[offset / slab->object_bytes] == SLOT_LIVE ? SLABMALLOC_OK : SLABMALLOC_FREE_DOUBLE;
}

/* Frees what shadow_judge found right. */
static inline void shadow_deallocate(shadow *s, const void *object, bool is_remote)
{
    shadow_slab *slab = shadow_find(s, object);
    uint8_t *slot = &slab->slots[(size_t)((const char *)object - slab->page) / slab->object_bytes];
    *slot = is_remote ? SLOT_REMOTE : SLOT_FREE;
    if (is_remote) {
        slab->remote_count++;
    } else {
        slab->free_count++;
        shadow_relist(s, slab);
    }
}

/* Would a remote free of `object` make a second slab of its class wait to be collected? */
static inline bool shadow_must_collect(const shadow *s, const void *object)
{
    const shadow_slab *own = shadow_find(s, object);
    for (const shadow_slab *slab = s->all; slab != NULL; slab = slab->all)
        if (slab != own && slab->class_index == own->class_index && slab->remote_count > 0)
            return true;
    return false;
}

/* ---- comparison ---- */

/* The page that reclaim must give back next, or NULL. */
static inline shadow_slab *shadow_reclaimable(const shadow *s, int class_index, size_t page_bytes)
{
    for (uint32_t i = 0; i < s->table.count; i++) {
        const shadow_class *c = &s->classes[i];
        if ((class_index >= 0 && i != (uint32_t)class_index) || class_page_bytes(&s->table, i) != page_bytes)
            continue;
        if (c->front[SHADOW_EMPTY] != NULL)
            return c->front[SHADOW_EMPTY];
        if (c->current != NULL && c->current->free_count == c->current->capacity)
            return c->current;
    }
    return NULL;
}

/* Statistics and every slot, as the zone tells them. The zone collects when asked, and so does the shadow. */
static inline void shadow_compare(shadow *s, slabmalloc_zone *zone, bool with_slots)
{
    shadow_collect_all(s);
    for (uint32_t i = 0; i < s->table.count; i++) {
        slabmalloc_class_stats stats = slabmalloc_zone_stats(zone, (int)i);
        size_t pages[3] = {0}, live = 0;
        for (const shadow_slab *slab = s->all; slab != NULL; slab = slab->all) {
            if (slab->class_index != i)
                continue;
            pages[slab->free_count == slab->capacity ? 0 : slab->free_count > 0 ? 1 : 2]++;
            live += slab->capacity - slab->free_count;
        }
        CHECK_EQUAL(stats.empty_pages, pages[0]);
        CHECK_EQUAL(stats.partial_pages, pages[1]);
        CHECK_EQUAL(stats.full_pages, pages[2]);
        CHECK_EQUAL(stats.live_objects, live);
        CHECK_EQUAL(stats.pages_taken, s->classes[i].pages_taken);
        CHECK_EQUAL(stats.pages_returned, s->classes[i].pages_returned);
        CHECK_EQUAL(stats.remote_frees, s->classes[i].remote_frees);
    }
    for (const shadow_slab *slab = with_slots ? s->all : NULL; slab != NULL; slab = slab->all)
        for (size_t i = 0; i < slab->capacity; i++) {
            slabmalloc_slot_info info = slabmalloc_zone_inspect(zone, slab->page + i * slab->object_bytes);
            CHECK(info.page == slab->page && info.slot_index == i && info.capacity == slab->capacity &&
                  info.object == slab->page + i * slab->object_bytes && info.object_bytes == slab->object_bytes);
            CHECK_EQUAL(info.is_live, slab->slots[i] == SLOT_LIVE);
        }
    CHECK_CONSERVED(zone);
}

#endif
