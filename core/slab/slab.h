/* SPDX-License-Identifier: MIT
 *
 * One page under a bitmap, floor 1. The record (`slab`) is private to the process and lies outside the page; what must
 * outlive it, or be seen by others, lies in the page's last bytes and holds no pointer:
 *
 *     [ objects | tail | local bitset | remote bitset | trailer ]        capacity x object + tail + meta-data = page
 *
 * With meta-data apart the page holds objects and tail alone, and the two bitsets lie in the zone's bookkeeping.
 *
 * Invariants of a slab in use (`slab_is_valid`):
 *     local, remote are sets of slot indexes < capacity;  local: free slots, written by the owner alone;
 *     remote: slots that others freed and the owner has not collected;  local and remote are disjoint
 *     live = capacity - |local| - |remote|
 *
 * The top of local's summary is the owner's business, and lies in the record: with T = max(levels - 2, 0), the level
 * below it,
 *     bit i of summary is set  <=>  word i of level T is not zero
 * For sets of up to 4096 slots T is level 0, so that a free raises it by one or, whatever the word was before; a slab
 * with more slots is `deep`, and has levels of summary in the page.
 */
#ifndef SLABMALLOC_SLAB_SLAB_H
#define SLABMALLOC_SLAB_SLAB_H

#include "slab/bitset.h"
#include "slabmalloc.h"

/* How a page is divided for one object size. */
typedef struct slab_geometry {
    uint64_t reciprocal, slots_bound; /* to divide by object_bytes; what is within the bound is a slot */
    bitset_shape shape;               /* of local and of remote; a free reads nothing behind it */
    uint32_t object_bytes, page_bytes;
    uint32_t capacity;       /* 0: not one object fits */
    uint32_t metadata_bytes; /* in the page */
} slab_geometry;

ALWAYS_INLINE bool slab_is_deep(const slab_geometry *g) { return g->shape.levels > 2; }

/* `guard_bytes` at the end of the page hold no object. */
slab_geometry slab_geometry_of(uint32_t object_bytes, uint32_t page_bytes, bool metadata_apart, uint32_t guard_bytes);

/* The last bytes of a page in a client's zone. */
typedef struct slab_trailer {
    uint64_t magic;
    uint32_t object_bytes, capacity, page_bytes, reserved;
    uint64_t check;
} slab_trailer;

_Static_assert(sizeof(slab_trailer) == 32, "the trailer's layout is a file format");

/* Which list of its allocator a slab is on; the bands of partial slabs come first, the fullest band lowest. */
enum {
    SLAB_BANDS = 4,
    SLAB_EMPTY = SLAB_BANDS, /* no slot in use */
    SLAB_FULL,               /* no slot free, as far as the owner knows */
    SLAB_LISTS,
    SLAB_OLD = SLAB_LISTS, /* in a forked child, for each band a list of the slabs that were there before it */
    SLAB_CHAINS = SLAB_OLD + SLAB_BANDS,
    SLAB_CURRENT = SLAB_LISTS, /* allocations come from here; on no list */
    SLAB_UNUSED                /* the record has no page */
};

/* What a free in a slab has to look at, beyond its bit. */
enum {
    SLAB_PENDING = 1, /* a hint: on its allocator's stack, or about to be; slots may be free in `remote` */
    SLAB_DEEP = 2,    /* a word that was empty has to be told to the levels in the page */
    SLAB_ATTENTION = SLAB_PENDING | SLAB_DEEP
};

/* Fields belong to the owner, but for those marked. A record is never unmapped while its zone lives, so that a late
 * reader finds a record, if not the one it looked for.
 *     free_count = |local| = slab_limit(its list) - room, not kept while current */
typedef struct slab {
    /* One line has all that a free reads, but for its bit. A record serves one class, for ever: so what is the class's
     * too, the first five, never changes, but for the tag. */
    _Atomic uintptr_t tagged_zone; /* its address | what asks for attention; whoever pushes the slab writes it too */
    struct slabmalloc_sc *sc;
    uintptr_t offset_mask; /* the rest of an address on a page of this class */
    uint64_t reciprocal, slots_bound;
    uint64_t summary; /* top of local's */
    uint32_t room;    /* frees until the slab changes lists; not kept while current */
    uint8_t list;
    bool has_purged; /* the heap's: OS pages of this slab are purged; nobody allocated from it since */
    uint8_t looks;   /* the heap's: so often may the system be asked what has no memory (heap_allocate_zeroed) */

    _Atomic uintptr_t page; /* others read it; 0 while unused */
    struct slab *next, *prev;
    struct slab *pending_next; /* of whoever pushes the slab on the stack, until the owner has popped it */
    word *local;               /* remote begins right behind it */
} slab;

_Static_assert(offsetof(slab, page) <= CACHE_LINE_BYTES, "a free touches one line of the record");

ALWAYS_INLINE uintptr_t slab_tagged_zone(const slab *s)
{
    return atomic_load_explicit(&s->tagged_zone, memory_order_relaxed);
}

ALWAYS_INLINE struct slabmalloc_zone *slab_zone(const slab *s)
{
    return (struct slabmalloc_zone *)(slab_tagged_zone(s) & ~(uintptr_t)SLAB_ATTENTION);
}

/* Has a free to look at more than its bit? */
ALWAYS_INLINE bool slab_wants_attention(const slab *s) { return (slab_tagged_zone(s) & SLAB_ATTENTION) != 0; }

/* Is it the zone's, and has a free nothing to look at but its bit? */
ALWAYS_INLINE bool slab_is_plain_in(const slab *s, const struct slabmalloc_zone *zone)
{
    return slab_tagged_zone(s) == (uintptr_t)zone;
}

/* The slot of an object on its page. */
ALWAYS_INLINE quotient slab_slot_of(const slab *s, uintptr_t object)
{
    return divide(object & s->offset_mask, s->reciprocal, s->slots_bound);
}

/* The local bitset of a slab whose meta-data lies apart. */
ALWAYS_INLINE word *slab_local_apart(slab *s) { return (word *)(s + 1); }

ALWAYS_INLINE uintptr_t slab_page(const slab *s) { return atomic_load_explicit(&s->page, memory_order_relaxed); }

ALWAYS_INLINE word *slab_remote(const slab *s, const slab_geometry *g) { return s->local + bitset_words(&g->shape); }

/* The list for a slab with so many free slots, and the least free count that belongs to the next one. */
ALWAYS_INLINE uint8_t slab_list_for(const slab_geometry *g, uint32_t free_count)
{
    if (free_count == 0)
        return SLAB_FULL;
    if (free_count == g->capacity)
        return SLAB_EMPTY;
    return (uint8_t)(((uint64_t)free_count * SLAB_BANDS - 1) / g->capacity);
}

ALWAYS_INLINE uint32_t slab_limit(const slab_geometry *g, uint8_t list)
{
    if (list == SLAB_FULL)
        return 1;
    if (list == SLAB_EMPTY)
        return UINT32_MAX;
    return (uint32_t)min_size(g->capacity, ((uint64_t)list + 1) * g->capacity / SLAB_BANDS + 1);
}

/* Free slots of a slab on a list. */
ALWAYS_INLINE uint32_t slab_free_count(const slab *s, const slab_geometry *g)
{
    return slab_limit(g, s->list) - s->room;
}

/* Level-0 word `index` of a local set has just become non-zero / zero: tell its summary. */
void local_raise(word *local, uint64_t *summary, const slab_geometry *g, size_t index);
void local_lower(word *local, uint64_t *summary, const slab_geometry *g, size_t index);
/* The top of the summary, from the level below it. */
uint64_t local_summary(const word *local, const slab_geometry *g);
/* Makes the levels in the page, and the record's summary, what level 0 says. */
void slab_summarize(slab *s, const slab_geometry *g);

/* The first word of a local set that is not zero, or SIZE_MAX. */
ALWAYS_INLINE size_t local_first_word(const word *local, uint64_t summary, const slab_geometry *g)
{
    if (summary == 0)
        return SIZE_MAX;
    size_t index = word_lowest(summary);
    for (uint32_t level = g->shape.levels; level > 2; level--)
        index = index * WORD_BITS + word_lowest(word_get(&local[g->shape.offset[level - 2] + index]));
    return index;
}

/* `pending`: SLAB_PENDING, or 0. */
ALWAYS_INLINE void slab_attend(slab *s, const slab_geometry *g, uintptr_t pending)
{
    uintptr_t attention = slab_is_deep(g) ? pending | SLAB_DEEP : pending;
    atomic_store_explicit(&s->tagged_zone, (uintptr_t)slab_zone(s) | attention, memory_order_relaxed);
}

/* Where the bitsets lie in a page that carries its meta-data. */
word *slab_local_in_page(const slab_geometry *g, uintptr_t page);

/* All slots free; writes the trailer if the meta-data lies in the page. */
void slab_format(slab *s, const slab_geometry *g);
/* The page no longer carries a slab. */
void slab_wipe(const slab_geometry *g, uintptr_t page);
/* Does the page carry a slab? It need not be one of ours: only its last bytes are read. */
bool slab_is_carried(uintptr_t page, size_t page_bytes, slab_trailer *trailer);
/* Believes the bitsets of a carried slab if they can be true, and collects what was remote. */
bool slab_restore(slab *s, const slab_geometry *g);

/* All but the summary, which is not whole while a random start goes on: that of level 0 is local_summary. */
bool slab_is_valid(const slab *s, const slab_geometry *g);

#endif
