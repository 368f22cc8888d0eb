/* SPDX-License-Identifier: MIT
 *
 * Large objects that rest: see large_rest.h.
 */
#include "heap/large_rest.h"

#include "heap/large_map.h"

enum { WASTE_SHARE = 4 };

/* One step of giving back: about a quarter of a millisecond of the kernel's time. (A huge page takes no longer.) Who takes
 * or frees so many bytes pays for as many, and a step at most besides, however large the blocks are that go for them. */
#define DECAY_STEP_BYTES ((size_t)2 << 20)

void rest_begin(large_space *l, large_block *b)
{
    b->older = l->newest;
    b->newer = NULL;
    *(l->newest != NULL ? &l->newest->newer : &l->oldest) = b;
    l->newest = b;
    b->purged_bytes = 0;
    l->resting_bytes += b->bytes;
}

/* It rests no more. */
static void rest_end(large_space *l, large_block *b)
{
    *(b->newer != NULL ? &b->newer->older : &l->newest) = b->older;
    *(b->older != NULL ? &b->older->newer : &l->oldest) = b->newer;
    l->resting_bytes -= b->bytes - b->purged_bytes;
}

void leave_trace(large_space *l, const large_block *b, bool was_moved)
{
    l->traces[l->trace_count++ % LARGE_TRACES] =
        (large_trace){.address = b->address, .bytes = b->bytes, .was_moved = was_moved};
}

size_t rest_unmap(large_space *l, large_block *b)
{
    size_t held = b->bytes - b->purged_bytes;
    rest_end(l, b);
    block_cut_ends(l, b->bytes, b->address, b->address + held);
    leave_trace(l, b, false);
    if (b->is_guarded ? block_fence(l, b) : block_unmap(l, b) == 0) {
        block_delete(l, b);
    } else {
        if (slabmalloc_os_purge((void *)b->address, b->bytes) == 0)
            b->purged_bytes = b->bytes;
        else
            held = 0;
        b->next = l->hollow;
        l->hollow = b;
    }
    l->given_back_bytes += held;
    return held;
}

bool rest_yields(large_space *l) { return fences_end(l) > 0 || (l->oldest != NULL && rest_unmap(l, l->oldest) > 0); }

size_t rest_step(large_space *l, large_block *b)
{
    size_t step = max_size(DECAY_STEP_BYTES, l->huge.bytes);
    uintptr_t end = b->address + b->bytes - b->purged_bytes, begin = (end - 1) & ~(uintptr_t)(step - 1);
    size_t bytes = end - begin;
    if (begin <= b->address)
        return rest_unmap(l, b);
    block_cut_ends(l, b->bytes, begin, end);
    if (slabmalloc_os_purge((void *)begin, bytes) != 0)
        return rest_unmap(l, b);
    b->purged_bytes += bytes;
    l->resting_bytes -= bytes;
    l->given_back_bytes += bytes;
    return bytes;
}

/* The resting block that serves the request with the least waste, at most a quarter of it; else the largest of those
 * that have half of it or more, which grows: what grows by steps then takes its own memory along. NULL: there is none.
 */
static large_block *rest_choose(const large_space *l, size_t bytes, size_t align)
{
    large_block *best = NULL, *half = NULL;
    for (large_block *b = l->newest; b != NULL; b = b->older) {
        if (b->address % align != 0)
            continue;
        if (b->bytes >= bytes) {
            if (b->bytes - bytes <= bytes / WASTE_SHARE && (best == NULL || b->bytes < best->bytes))
                best = b;
        } else if (b->bytes >= bytes / 2 && align <= SLABMALLOC_MIN_PAGE_BYTES && b->purged_bytes == 0 &&
                   (half == NULL || b->bytes > half->bytes)) {
            half = b;
        }
    }
    return best != NULL ? best : half;
}

large_block *hollow_take(large_space *l, size_t bytes, size_t align)
{
    for (large_block **at = &l->hollow; *at != NULL; at = &(*at)->next) {
        large_block *b = *at;
        if (b->bytes >= bytes && b->bytes - bytes <= (l->is_guarded ? 0 : bytes / WASTE_SHARE) &&
            b->address % align == 0) {
            *at = b->next;
            return b;
        }
    }
    return NULL;
}

large_block *rest_take(large_space *l, size_t bytes, size_t align)
{
    large_block *b = rest_choose(l, bytes, align);
    if (b == NULL)
        return NULL;
    if (b->bytes < bytes) {
        void *grown = block_remap(l, b->address, b->bytes, bytes);
        if (grown == NULL)
            return NULL;
        l->resting_bytes += bytes - b->bytes;
        if ((uintptr_t)grown != b->address)
            leave_trace(l, b, false);
        b->address = (uintptr_t)grown;
        b->bytes = bytes;
    }
    rest_end(l, b);
    l->reused_count++;
    return b;
}
