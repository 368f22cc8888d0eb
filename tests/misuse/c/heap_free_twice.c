/* SPDX-License-Identifier: MIT */
/* The classic, on the process heap.
 *
 * prints: double free: the object is free already
 * exits: 6 */
#include "heap/heap.h"
#include "misuse.h"

int main(void)
{
    heap *h = heap_create((size_t)1 << 26);
    char *object = heap_allocate(h, SIZE);
    if (heap_free(h, object) != SLABMALLOC_OK)
        return HARMED;
    slabmalloc_status status = heap_free(h, object);
    puts(slabmalloc_status_text(status));
    return heap_audit(h) == NULL && space_statistics(h->space).live_objects == 0 ? (int)status : HARMED;
}
