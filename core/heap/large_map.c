/* SPDX-License-Identifier: MIT
 *
 * What large objects are made of: see large_map.h.
 */
#include "heap/large_map.h"

#include <errno.h>

#include "base/check.h"

/* ---- records --------------------------------------------------------------------------------------------- */

large_block *block_new(large_space *l)
{
    large_block *b = l->unused;
    if (b == NULL)
        return store_take(&l->store, sizeof(large_block));
    l->unused = b->next;
    *b = (large_block){.address = 0};
    return b;
}

void block_delete(large_space *l, large_block *b)
{
    b->next = l->unused;
    l->unused = b;
}

/* ---- huge pages ------------------------------------------------------------------------------------------ */

void block_advise(const large_space *l, uintptr_t address, size_t bytes)
{
    if (l->huge.is_wanted && block_may_be_huge(l, bytes))
        huge_advise((void *)address, bytes);
    else if (l->huge.is_unasked && !block_may_be_huge(l, bytes))
        huge_refuse((void *)address, bytes); /* with its neighbours it could be part of one */
}

void block_cut_ends(const large_space *l, const large_block *b, uintptr_t begin, uintptr_t end)
{
    ASSERT(b->address <= begin && begin < end && end <= b->address + b->bytes); /* what is cut loses a page */
    if (!b->in_huge)
        return;
    if (begin % l->huge.bytes != 0)
        huge_cut(begin);
    if (end % l->huge.bytes != 0)
        huge_cut(end - 1);
}

/* ---- mappings -------------------------------------------------------------------------------------------- */

bool block_map(large_space *l, large_block *b, size_t bytes, size_t align)
{
    b->is_guarded = l->is_guarded && l->guarded_count < l->most_guarded;
    b->address = (uintptr_t)(b->is_guarded ? os_map_guarded(bytes, align) : slabmalloc_os_map(bytes, align, false));
    l->guarded_count += b->address != 0 && b->is_guarded;
    return b->address != 0;
}

int block_unmap(large_space *l, const large_block *b)
{
    int reason = b->is_guarded ? os_unmap_guarded((void *)b->address, b->bytes)
                               : slabmalloc_os_unmap((void *)b->address, b->bytes);
    l->guarded_count -= reason == 0 && b->is_guarded;
    return reason;
}

bool block_cut(const large_space *l, const large_block *b, size_t bytes)
{
    block_cut_ends(l, b, b->address + bytes, b->address + b->bytes);
    int reason = slabmalloc_os_unmap((void *)(b->address + bytes), b->bytes - bytes);
    if (reason != 0) {
        errno = reason;
        return false;
    }
    if (block_may_be_huge(l, b->bytes) != block_may_be_huge(l, bytes))
        block_advise(l, b->address, bytes);
    return true;
}

void *block_grow(const large_space *l, uintptr_t address, size_t old_bytes, size_t new_bytes)
{
    bool is_huge_now = block_may_be_huge(l, new_bytes);
    void *moved = is_huge_now ? os_grow((void *)address, old_bytes, new_bytes, l->huge.bytes)
                              : slabmalloc_os_remap((void *)address, old_bytes, new_bytes);
    if (moved != NULL && l->huge.is_unasked && is_huge_now && !block_may_be_huge(l, old_bytes))
        huge_advise(moved, new_bytes); /* it was refused while it was short */
    else if (moved != NULL && block_may_be_huge(l, old_bytes) != is_huge_now)
        block_advise(l, (uintptr_t)moved, new_bytes);
    return moved;
}

/* ---- fences ---------------------------------------------------------------------------------------------- */

/* The oldest addresses are free again. (Where the system can't cut them out of a mapping they stay what they are.) */
static size_t unfence(large_space *l)
{
    large_fence *oldest = &l->fences[l->next_fence], gone = *oldest;
    *oldest = (large_fence){.address = 0};
    l->next_fence = (l->next_fence + 1) % LARGE_FENCES;
    if (gone.address != 0)
        os_unmap_guarded((void *)gone.address, gone.bytes);
    return gone.bytes;
}

size_t fences_end(large_space *l)
{
    size_t bytes = 0;
    for (int i = 0; i < LARGE_FENCES; i++)
        bytes += unfence(l);
    return bytes;
}

bool block_fence(large_space *l, const large_block *b)
{
    if (os_fence((void *)b->address, b->bytes) != 0)
        return false;
    size_t place = l->next_fence;
    unfence(l);
    l->fences[place] = (large_fence){b->address, b->bytes};
    l->guarded_count--;
    return true;
}
