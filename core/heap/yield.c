/* SPDX-License-Identifier: MIT
 *
 * What a heap gives up where the system refuses memory, and large objects, which ask the system, floor 3.
 */
#include "heap/hardened.h"
#include "heap/heap.h"

bool heap_yield(heap *h)
{
    if (heap_reclaim(h) > 0)
        return true;
    bool was_busy = h->is_busy;
    h->is_busy = true;
    bool has_freed = h->hardened != NULL && hardened_trim(h) > 0;
    h->is_busy = was_busy;
    heap_reclaim(h);
    return has_freed;
}

/* Who asks for more than there can be costs nobody anything: he could else empty a hardened heap's quarantine when he
 * likes. */
void *heap_allocate_large(heap *h, size_t bytes, size_t align, bool *is_zero)
{
    void *object = space_allocate_large(h->space, bytes, align, is_zero);
    size_t all = bytes > SIZE_MAX - align ? SIZE_MAX : bytes + align;
    while (UNLIKELY(object == NULL) && space_could_make_room(h->space, all) && heap_yield(h))
        object = space_allocate_large(h->space, bytes, align, is_zero);
    return object;
}

void *heap_resize_large(heap *h, void *object, size_t bytes)
{
    size_t usable = heap_usable_bytes(h->space, object);
    void *resized = space_resize_large(h->space, object, bytes);
    while (UNLIKELY(resized == NULL) && bytes > usable && space_could_make_room(h->space, bytes - usable) &&
           heap_yield(h))
        resized = space_resize_large(h->space, object, bytes);
    return resized;
}
