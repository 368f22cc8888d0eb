/* SPDX-License-Identifier: MIT */
/* An object that the heap did not make.
 *
 * prints: invalid free: the address is on no page of this zone
 * exits: 3 */
#include "heap/heap.h"
#include "misuse.h"

int main(void)
{
    heap *h = heap_create((size_t)1 << 26);
    char *object = heap_allocate(h, SIZE);
    (void)object;
    slabmalloc_status status = heap_free(h, page);
    puts(slabmalloc_status_text(status));
    return heap_audit(h) == NULL && space_statistics(h->space).live_objects == 1 ? (int)status : HARMED;
}
