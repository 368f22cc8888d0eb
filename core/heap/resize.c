/* SPDX-License-Identifier: MIT
 *
 * Objects that change their size, floor 3: where they stay, and what room they get when they move.
 */
#include "heap/heap.h"

#include <string.h>

#include "heap/hardened.h"
#include "slab/pager.h"

enum { GROWING_BYTES = 512 };

/* What is wrong with an address at which no live object begins. */
static slabmalloc_status diagnose(space *s, const void *object)
{
    const slab *found = space_slab_at(s, (uintptr_t)object);
    if (found == NULL)
        return SLABMALLOC_FREE_FOREIGN;
    return slab_slot_of(found, (uintptr_t)object).is_within ? SLABMALLOC_FREE_DOUBLE : SLABMALLOC_FREE_INTERIOR;
}

/* What has grown once is likely to grow again: a quarter more, so that a vector which grows by small steps is copied at
 * every second class or third alone, and half as much again where most of that is OS pages that nobody has touched; but
 * no more than what still fits in the sense of heap_fits. */
static size_t room_to_grow(const heap *h, size_t bytes)
{
    if (bytes < GROWING_BYTES || bytes > HEAP_MEDIUM_BYTES)
        return bytes;
    size_t roomy = min_size(bytes + bytes / (bytes > HEAP_SMALL_BYTES ? 2 : 4), HEAP_MEDIUM_BYTES);
    const uint32_t *size = &h->view.zone->classes->sizes[zone_class_of_size(h->view.zone, roomy)];
    while (!heap_fits(*size, bytes) && size > h->view.zone->classes->sizes && size[-1] >= bytes)
        size--;
    return *size;
}

/* Would a slot for so many bytes be none other than one of these, where classes are far apart? */
static bool is_in_class(const heap *h, size_t usable, size_t bytes)
{
    const slabmalloc_zone *zone = h->view.zone;
    return bytes <= usable && usable <= HEAP_MEDIUM_BYTES &&
           zone->classes->sizes[zone_class_of_size(zone, bytes)] == usable;
}

bool heap_may_have_size(space *s, const void *object, size_t bytes, size_t align)
{
    size_t usable = heap_usable_bytes(s, object), asked = max_size(bytes, 1);
    if (usable == 0)
        return true;
    if (bytes > usable || !is_power_of_two(align) || (uintptr_t)object % align != 0)
        return false;
    bool has_roomy = atomic_load_explicit(&s->has_roomy, memory_order_relaxed);
    if (s->options.is_hardened) /* it knows what was asked for */
        return asked == usable || has_roomy;
    const slab *found = space_slab_at(s, (uintptr_t)object);
    size_t least = min_size(asked, usable) + os_page_bytes() - 1; /* large: whole OS pages, and a quarter of waste */
    bool is_as_made = found != NULL ? slabmalloc_zone_class_of(found->sc->zone, asked, align) == (int)found->sc->index
                                    : usable <= least + least / 4;
    return is_as_made || heap_fits(usable, bytes) || has_roomy;
}

/* What had no bytes gets some. */
static void *reallocate_nothing(heap *h, void *object, size_t bytes, slabmalloc_status *status)
{
    void *made = heap_allocate(h, bytes);
    *status = made != NULL ? heap_free(h, object) : SLABMALLOC_OK;
    return made;
}

static bool is_growing(size_t usable, size_t bytes) { return bytes > usable && bytes >= GROWING_BYTES; }

/* The live object, of so many usable bytes, goes where it has `bytes`. */
static NOINLINE void *move(heap *h, void *object, size_t usable, size_t bytes, slabmalloc_status *status)
{
    void *moved = heap_allocate(h, is_growing(usable, bytes) ? room_to_grow(h, bytes) : bytes);
    if (UNLIKELY(moved == NULL))
        return bytes <= usable ? heap_left_roomy(h->space, object) : NULL; /* to shrink never fails */
    memcpy(moved, object, min_size(bytes, usable));
    *status = heap_free(h, object);
    return moved;
}

static NOINLINE void *reallocate_other(heap *h, void *object, size_t bytes, slabmalloc_status *status)
{
    if (heap_is_nothing(h->space, object))
        return reallocate_nothing(h, object, bytes, status);
    if (UNLIKELY(h->hardened != NULL))
        return hardened_reallocate(h, object, bytes, status);
    size_t usable = heap_usable_bytes(h->space, object);
    *status = usable == 0 ? diagnose(h->space, object) : SLABMALLOC_OK;
    if (usable == 0)
        return NULL;
    if (heap_fits(usable, bytes) || is_in_class(h, usable, bytes))
        return object;
    if (usable > HEAP_MEDIUM_BYTES && bytes > HEAP_MEDIUM_BYTES) {
        void *resized = heap_resize_large(h, object, bytes);
        if (resized != NULL)
            return resized;
    }
    /* Also what the kernel does not resize: a mapping that its client gave advice for in parts, as NumPy does. */
    return move(h, object, usable, bytes, status);
}

void *heap_reallocate(heap *h, void *object, size_t bytes, slabmalloc_status *status)
{
    slab *own = heap_own_slab(&h->view, (uintptr_t)object);
    if (UNLIKELY(own == NULL))
        return reallocate_other(h, object, bytes, status);
    quotient slot = slab_slot_of(own, (uintptr_t)object);
    if (UNLIKELY(!slot.is_within) || UNLIKELY(bitset_has(slab_local_apart(own), slot.value))) {
        *status = diagnose(h->space, object);
        return NULL;
    }
    *status = SLABMALLOC_OK;
    size_t usable = own->sc->object_bytes;
    slabmalloc_sc *sc = heap_sc_of(&h->view, bytes);
    if (sc == own->sc || heap_fits(usable, bytes))
        return object;
    if (is_growing(usable, bytes) || UNLIKELY(sc->next == NO_SLOT))
        return move(h, object, usable, bytes, status);
    void *moved = sc_allocate_next(sc, sc->next);
    memcpy(moved, object, min_size(bytes, usable));
    if (UNLIKELY(!heap_free_slot(own, (uintptr_t)object, slot.value, false)))
        *status = heap_free(h, object);
    return moved;
}
