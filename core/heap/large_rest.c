/* SPDX-License-Identifier: MIT
 *
 * Large objects that rest: see large_rest.h.
 */
#include "heap/large_rest.h"

#include "heap/large_map.h"

enum { WASTE_SHARE = 4 };

/* Up to here any request divides a block; a longer one only requests that are at least as long: of its kind there are
 * few, and what is short and stays would keep it from them. */
#define SHORT_MOST_BYTES ((size_t)2 << 20)

/* One step of giving back: about a quarter of a millisecond of the kernel's time. (A huge page takes no longer.) Who
 * takes or frees so many bytes pays for as many, and a step at most besides, however large the blocks are that go for
 * them. */
#define DECAY_STEP_BYTES ((size_t)2 << 20)

void rest_begin(large_space *l, large_block *b)
{
    b->older = l->newest;
    b->newer = NULL;
    *(l->newest != NULL ? &l->newest->newer : &l->oldest) = b;
    l->newest = b;
    b->rests = true;
    b->purged_bytes = 0;
    l->resting_bytes += b->bytes;
}

/* It rests no more. */
static void rest_end(large_space *l, large_block *b)
{
    *(b->newer != NULL ? &b->newer->older : &l->newest) = b->older;
    *(b->older != NULL ? &b->older->newer : &l->oldest) = b->newer;
    l->resting_bytes -= b->bytes - b->purged_bytes;
    b->rests = false;
}

void rest_part_behind(large_block *b)
{
    if (b->behind != NULL)
        b->behind->before = NULL;
    b->behind = NULL;
}

/* It is nobody's neighbour any more. */
static void part(large_block *b)
{
    rest_part_behind(b);
    if (b->before != NULL)
        rest_part_behind(b->before);
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
    part(b);
    block_cut_ends(l, b, b->address, b->address + b->bytes);
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

bool rest_yields(large_space *l)
{
    size_t bytes = fences_end(l);
    while (bytes == 0 && l->oldest != NULL)
        bytes = rest_unmap(l, l->oldest);
    return bytes > 0;
}

size_t rest_step(large_space *l, large_block *b)
{
    size_t step = max_size(DECAY_STEP_BYTES, l->huge.bytes);
    uintptr_t end = b->address + b->bytes - b->purged_bytes, begin = (end - 1) & ~(uintptr_t)(step - 1);
    size_t bytes = end - begin;
    if (begin <= b->address)
        return rest_unmap(l, b);
    block_cut_ends(l, b, begin, end);
    if (slabmalloc_os_purge((void *)begin, bytes) != 0)
        return rest_unmap(l, b);
    b->purged_bytes += bytes;
    l->resting_bytes -= bytes;
    l->given_back_bytes += bytes;
    return bytes;
}

/* ---- which block serves ---------------------------------------------------------------------------------- */

static size_t most_waste(size_t bytes) { return bytes / WASTE_SHARE; }

bool rest_is_short(const large_space *l, size_t bytes)
{
    return bytes <= SHORT_MOST_BYTES && !block_may_be_huge(l, bytes);
}

/* Is the block one to be divided for the request? */
static bool is_divided_for(const large_space *l, const large_block *b, size_t bytes)
{
    return rest_is_short(l, b->bytes) || bytes >= SHORT_MOST_BYTES;
}

static large_block *resting_behind(const large_block *b)
{
    return b->behind != NULL && b->behind->rests ? b->behind : NULL;
}

/* What the block has with as much of what rests behind it as makes it `bytes`, or all of that. */
static size_t reach(const large_block *b, size_t bytes)
{
    size_t reached = b->bytes;
    for (const large_block *next = resting_behind(b); next != NULL && reached < bytes; next = resting_behind(next))
        reached += next->bytes;
    return reached;
}

/* Of neighbours that rest, the first that can serve: so those behind are looked at once. */
static bool is_first(const large_block *b, size_t align)
{
    const large_block *before = b->before;
    return before == NULL || !before->rests || before->purged_bytes != 0 || before->address % align != 0;
}

/* In the order in which it is looked for:
 *   1. The block that serves the request with the least waste, at most a quarter of it.
 *   2. The shortest that is too long, or is so with what rests behind it, and is divided. What is left over rests on,
 *      with its age, and the block takes it back when it grows. That needs no fresh memory, and not even a system
 *      call: for what grows by realloc, which begins short, however long it was when it was freed, and for long blocks
 *      of many sizes.
 *   3. The longest that has half of it or more, which grows: what grows by steps takes its own memory along.
 * NULL: there is none. */
static large_block *rest_choose(const large_space *l, size_t bytes, size_t align)
{
    large_block *best = NULL, *divided = NULL, *half = NULL;
    size_t least = SIZE_MAX;
    for (large_block *b = l->newest; b != NULL; b = b->older) {
        if (b->address % align != 0)
            continue;
        bool is_untouched = b->purged_bytes == 0;
        if (b->bytes >= bytes && b->bytes - bytes <= most_waste(bytes)) {
            if (best == NULL || b->bytes < best->bytes)
                best = b;
        } else if (is_untouched && is_divided_for(l, b, bytes) && is_first(b, align) && reach(b, bytes) >= bytes) {
            if (reach(b, bytes) < least) {
                divided = b;
                least = reach(b, bytes);
            }
        } else if (is_untouched && b->bytes < bytes && b->bytes >= bytes / 2 && align <= SLABMALLOC_MIN_PAGE_BYTES &&
                   (half == NULL || b->bytes > half->bytes)) {
            half = b;
        }
    }
    return best != NULL ? best : divided != NULL ? divided : half;
}

/* The block keeps `bytes`, and what is behind rests as one of its own, of the same age. False: the system refuses a
 * record. */
static bool split(large_space *l, large_block *b, size_t bytes)
{
    large_block *rest = block_new(l);
    if (rest == NULL)
        return false;
    *rest = (large_block){
        .address = b->address + bytes,
        .bytes = b->bytes - bytes,
        .freed_ms = b->freed_ms,
        .newer = b,
        .older = b->older,
        .before = b,
        .behind = b->behind,
        .rests = true,
        .in_huge = b->in_huge,
    };
    if (rest->behind != NULL)
        rest->behind->before = rest;
    *(b->older != NULL ? &b->older->newer : &l->oldest) = rest;
    b->older = b->behind = rest;
    b->bytes = bytes;
    return true;
}

/* Takes what rests behind the block into it, or so much of that as makes it `bytes` long. */
static void join(large_space *l, large_block *b, size_t bytes)
{
    large_block *next = b->behind;
    b->in_huge |= next->in_huge;
    size_t needed = bytes - b->bytes, held = next->bytes - next->purged_bytes;
    if (next->bytes > needed && next->bytes - needed > most_waste(bytes)) {
        next->address += needed;
        next->bytes -= needed;
        next->purged_bytes = min_size(next->purged_bytes, next->bytes);
        l->resting_bytes -= held - (next->bytes - next->purged_bytes);
        b->bytes += needed;
    } else {
        rest_end(l, next);
        b->bytes += next->bytes;
        b->behind = next->behind;
        if (b->behind != NULL)
            b->behind->before = b;
        block_delete(l, next);
    }
}

bool rest_extend(large_space *l, large_block *b, size_t bytes)
{
    size_t before = b->bytes, reached = reach(b, bytes);
    void *moved = (void *)b->address;
    if (reached < bytes && (moved = block_grow(l, b->address, reached, bytes)) == NULL)
        return false;
    while (b->bytes < bytes && resting_behind(b) != NULL)
        join(l, b, bytes);
    b->rested_bytes += b->bytes - before;
    if (reached < bytes) {
        part(b);
        b->address = (uintptr_t)moved;
        b->bytes = bytes;
        b->in_huge |= block_may_be_huge(l, bytes);
    }
    return true;
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
    if (b->bytes > bytes && b->bytes - bytes > most_waste(bytes) && !split(l, b, bytes))
        return NULL;
    rest_end(l, b);
    b->rested_bytes = b->bytes;
    if (b->bytes < bytes) {
        large_block before = *b;
        if (!rest_extend(l, b, bytes)) {
            rest_begin(l, b);
            return NULL;
        }
        if (b->address != before.address)
            leave_trace(l, &before, false);
    }
    l->reused_count++;
    return b;
}
