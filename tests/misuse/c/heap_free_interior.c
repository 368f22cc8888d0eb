/* SPDX-License-Identifier: MIT */
/* An address inside an object of the heap.
 *
 * prints: invalid free: no object begins at this address
 * exits: 5 */
#include "heap/heap.h"
#include "misuse.h"

int main(void)
{
    heap *h = heap_create((size_t)1 << 26);
    char *object = heap_allocate(h, SIZE);
    slabmalloc_status status = heap_free(h, object + 16);
    puts(slabmalloc_status_text(status));
    return heap_audit(h) == NULL && space_statistics(h->space).live_objects == 1 ? (int)status : HARMED;
}
