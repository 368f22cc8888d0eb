/* SPDX-License-Identifier: MIT
 *
 * One line, then abort(): nothing here allocates.
 */
#include "stop.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int describe(char *text, size_t size, space *s, const slabmalloc_slot_info *slot, const void *address)
{
    if (slot->page == NULL && space_range_of(s, (uintptr_t)address) != NULL)
        return snprintf(text, size, "in the heap's range, but on no slab");
    if (slot->page == NULL)
        return snprintf(text, size, "not an address of the heap");
    if (slot->slot_index >= slot->capacity)
        return snprintf(text, size, "behind the last slot of a %zu-byte slab", slot->object_bytes);
    const char *state = slot->is_live ? "live" : "already free";
    size_t inside = (size_t)((const char *)address - (const char *)slot->object);
    if (inside == 0)
        return snprintf(text, size, "slot %zu of a %zu-byte slab is %s", slot->slot_index, slot->object_bytes, state);
    return snprintf(text, size, "%zu bytes into slot %zu of a %zu-byte slab, which is %s", inside, slot->slot_index,
                    slot->object_bytes, state);
}

void stop_at_damage(space *s, const void *object) { stop_process(s, "write after free", object, "heap"); }

void stop_process(space *s, const char *what, const void *address, const char *domain)
{
    char state[128], line[256];
    slabmalloc_slot_info slot = heap_inspect(s, address);
    describe(state, sizeof(state), s, &slot, address);
    int length = snprintf(line, sizeof(line), "slabmalloc: %s of %p (%s): %s\n", what, address, domain, state);
    if (write(STDERR_FILENO, line, (size_t)length) < 0)
        _Exit(134); /* nobody to tell: the status of abort, without its core file */
    abort();
}
