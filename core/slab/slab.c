/* SPDX-License-Identifier: MIT
 *
 * One page under a bitmap: geometry, format, restore. The hot paths are in zone/sc.h, beside the lists they feed.
 */
#include "slab/slab.h"

#include <string.h>

#include "base/check.h"

#define TRAILER_MAGIC UINT64_C(0x316C616D62616C73) /* "slabmal1" in memory, on a little-endian machine */

static size_t metadata_bytes_for(uint32_t capacity)
{
    bitset_shape shape = bitset_shape_of(capacity);
    return 2 * sizeof(word) * bitset_words(&shape) + sizeof(slab_trailer);
}

slab_geometry slab_geometry_of(uint32_t object_bytes, uint32_t page_bytes, bool metadata_apart, uint32_t guard_bytes)
{
    uint32_t capacity = (page_bytes - guard_bytes) / object_bytes;
    if (!metadata_apart) {
        /* An object costs its bytes and at least two bits: an upper bound, a few steps above the answer. */
        uint64_t room = page_bytes - sizeof(slab_trailer);
        capacity = (uint32_t)(room * 8 / (UINT64_C(8) * object_bytes + 2));
        while (capacity > 0 && (uint64_t)capacity * object_bytes + metadata_bytes_for(capacity) > page_bytes)
            capacity--;
    }
    return (slab_geometry){
        .object_bytes = object_bytes,
        .page_bytes = page_bytes,
        .capacity = capacity,
        .metadata_bytes = metadata_apart || capacity == 0 ? 0 : (uint32_t)metadata_bytes_for(capacity),
        .reciprocal = reciprocal_of(object_bytes),
        .slots_bound = multiples_bound(object_bytes, capacity),
        .shape = bitset_shape_of(capacity),
    };
}

static slab_trailer *trailer_of(uintptr_t page, size_t page_bytes)
{
    return (slab_trailer *)(page + page_bytes - sizeof(slab_trailer));
}

static uint64_t trailer_check(const slab_trailer *t)
{
    return hash_multiply(t->magic ^ ((uint64_t)t->object_bytes << 32 | t->capacity)) ^ t->page_bytes;
}

word *slab_local_in_page(const slab_geometry *g, uintptr_t page)
{
    return (word *)(page + g->page_bytes - g->metadata_bytes);
}

/* ---- local's summary ------------------------------------------------------------------------------------- */

void local_raise(word *local, uint64_t *summary, const slab_geometry *g, size_t index)
{
    for (uint32_t level = 1; level + 1 < g->shape.levels; level++) {
        word *up = &local[g->shape.offset[level] + index / WORD_BITS];
        word_set(up, word_get(up) | word_bit(index));
        index /= WORD_BITS;
    }
    *summary |= word_bit(index);
}

void local_lower(word *local, uint64_t *summary, const slab_geometry *g, size_t index)
{
    for (uint32_t level = 1; level + 1 < g->shape.levels; level++) {
        word *up = &local[g->shape.offset[level] + index / WORD_BITS];
        uint64_t rest = word_get(up) & ~word_bit(index);
        word_set(up, rest);
        if (rest != 0)
            return;
        index /= WORD_BITS;
    }
    *summary &= ~word_bit(index);
}

void slab_summarize(slab *s, const slab_geometry *g)
{
    const bitset_shape *shape = &g->shape;
    bitset_summarize(shape, s->local);
    uint64_t top = word_get(&s->local[shape->offset[shape->levels - 1]]);
    s->summary = shape->levels > 1 ? top : top != 0;
}

/* The level under the summary. */
static uint32_t top_of(const bitset_shape *shape) { return shape->levels > 1 ? shape->levels - 2 : 0; }

uint64_t local_summary(const word *local, const slab_geometry *g)
{
    const bitset_shape *shape = &g->shape;
    uint32_t top = top_of(shape);
    uint64_t summary = 0;
    for (uint32_t i = 0; i < shape->offset[top + 1] - shape->offset[top]; i++)
        if (word_get(&local[shape->offset[top] + i]) != 0)
            summary |= word_bit(i);
    return summary;
}

/* ---- format, restore ------------------------------------------------------------------------------------- */

static void slab_begin(slab *s, const slab_geometry *g)
{
    slab_summarize(s, g);
    s->has_purged = false;
    /* A freer that is late may have the record on a stack still, or be about to. */
    slab_attend(s, g, slab_tagged_zone(s) & SLAB_PENDING);
}

void slab_format(slab *s, const slab_geometry *g)
{
    bitset_fill(&g->shape, s->local);
    bitset_clear(&g->shape, slab_remote(s, g));
    slab_begin(s, g);
    if (g->metadata_bytes == 0)
        return;
    slab_trailer trailer = {
        .magic = TRAILER_MAGIC,
        .object_bytes = g->object_bytes,
        .capacity = g->capacity,
        .page_bytes = g->page_bytes,
    };
    trailer.check = trailer_check(&trailer);
    *trailer_of(slab_page(s), g->page_bytes) = trailer;
}

void slab_wipe(const slab_geometry *g, uintptr_t page)
{
    if (g->metadata_bytes != 0)
        trailer_of(page, g->page_bytes)->magic = 0;
}

bool slab_is_carried(uintptr_t page, size_t page_bytes, slab_trailer *trailer)
{
    memcpy(trailer, trailer_of(page, page_bytes), sizeof(*trailer));
    return trailer->magic == TRAILER_MAGIC && trailer->page_bytes == page_bytes && trailer->reserved == 0 &&
           trailer->check == trailer_check(trailer);
}

bool slab_restore(slab *s, const slab_geometry *g)
{
    word *local = s->local, *remote = slab_remote(s, g);
    if (!bitset_has_no_excess(&g->shape, local) || !bitset_has_no_excess(&g->shape, remote))
        return false;
    for (uint32_t i = 0; i < g->shape.offset[1]; i++)
        if (word_get(&local[i]) & word_get(&remote[i]))
            return false;
    for (uint32_t i = 0; i < g->shape.offset[1]; i++)
        word_set(&local[i], word_get(&local[i]) | word_get(&remote[i]));
    bitset_clear(&g->shape, remote);
    slab_begin(s, g);
    return true;
}

bool slab_is_valid(const slab *s, const slab_geometry *g)
{
    const word *local = s->local, *remote = slab_remote(s, g);
    if (!bitset_is_summarized(&g->shape, local, top_of(&g->shape)) || !bitset_has_no_excess(&g->shape, local) ||
        !bitset_has_no_excess(&g->shape, remote))
        return false;
    for (uint32_t i = 0; i < g->shape.offset[1]; i++)
        if (word_get(&local[i]) & word_get(&remote[i]))
            return false;
    slab_trailer trailer;
    return g->metadata_bytes == 0 || (slab_is_carried(slab_page(s), g->page_bytes, &trailer) &&
                                      trailer.object_bytes == g->object_bytes && trailer.capacity == g->capacity);
}
