/* SPDX-License-Identifier: MIT
 *
 * The hardened mode of a space, floor 3: a layer between who asks a heap for blocks and the heap's objects, for those
 * who would rather pay than be surprised. Without it nothing here is called: the quick paths find no small size, no
 * large one and no address (heap_view), and so every call comes to heap.c, which passes it on.
 *
 * A block of n bytes is an object of the heap with room for n + SEAL_BYTES:
 *
 *     [ n bytes | slack | seal ]          n + |slack| + SEAL_BYTES = bytes of the object
 *
 * The first FILL_BYTES of the slack are filled with a secret byte; the seal is a word made of |slack|, the object's
 * address and its state with the secret words of the space (seal.h). An object is
 *     clean        every byte is 0, the seal's too: in the free sets of its slab, or in a pool
 *     live         sealed as live
 *     quarantined  sealed as freed, every other byte is 0
 * and goes round:
 *     slab --lowest first--> pool --at random, if it is still clean--> live --free, if seal and slack are whole-->
 *     quarantined --pushed out at random, if it is still sealed--> clean, and to the pool or to its slab
 *
 * So a double free finds a seal that is none of a live object; an overflow, be it of one byte, is found when its victim
 * or its culprit is freed; a write after free when the object's turn comes to be served again. From live to quarantined
 * is one compare-and-swap of the seal: of two threads that free an object one succeeds. Whoever frees keeps it in a
 * quarantine of his own heap, whosever slab it came from. Contents never outlive a free, and what is served is zero.
 *
 * Large objects have a seal too, and go back to the system at once. Guards, OS pages that nobody may touch, lie at the
 * end of every slab, around large objects, and around all bookkeeping.
 */
#ifndef SLABMALLOC_HEAP_HARDENED_H
#define SLABMALLOC_HEAP_HARDENED_H

#include "heap/heap.h"

enum { HARDENED_SEAL_BYTES = 8, HARDENED_POOL_MOST = 64, HARDENED_QUARANTINE_MOST = 256 };

/* Of one class. Dice are thrown a call ahead, so that what they choose is on its way to the cache when it is wanted. */
typedef struct hardened_class {
    uint32_t pool_next, pool_mask;             /* as many as a power of two, less 1 */
    uint32_t quarantine_next, quarantine_mask; /* the same */
    _Atomic uint32_t held_count;               /* objects that are live to the heap, and nobody's; read by anyone */
    /* The last that left quarantine, clean: the pool's next; 0: none, or it went to its slab. Read by anyone. */
    _Atomic uintptr_t spare;
    uintptr_t *pool, *quarantine; /* their places; 0: none there */
} hardened_class;

/* What a hardened heap has besides, in the same store. Of the owner. */
typedef struct hardened {
    heap_view view; /* as that of a heap which is not */
    uint64_t random_state;
    /* The last is of the allocator that is no class's (zone.h): it has no object, ever. */
    hardened_class classes[HEAP_CLASSES + 1];
    uintptr_t places[HEAP_CLASSES + 1][HARDENED_POOL_MOST + HARDENED_QUARANTINE_MOST];
} hardened;

/* The secrets of a space. */
void hardened_init(space *s);

/* As the functions of the same names in heap.h. */
void *hardened_allocate(heap *h, size_t bytes, size_t align);
void *hardened_allocate_zeroed(heap *h, size_t bytes);
void *hardened_reallocate(heap *h, void *object, size_t bytes, slabmalloc_status *status);
/* What nearly every hardened_allocate is: of a small block, from what is there. NULL: it is another kind, and nothing
 * has changed. [owner] */
void *hardened_allocate_quickly(heap *h, size_t bytes);
/* What nearly every hardened_free is: of a whole block of the caller's own. False: it is another kind, or a wrong one,
 * and nothing has changed. [owner] */
bool hardened_free_quickly(heap *h, void *object);
/* `h`: the caller's heap, or NULL if he has none. */
slabmalloc_status hardened_free(space *s, heap *h, void *object);
size_t hardened_usable_bytes(space *s, const void *object);
/* Does an object begin there that is clean or quarantined? */
bool hardened_is_freed(space *s, const void *object);

/* What was written where nothing was asked for. */
typedef struct hardened_trace {
    size_t bytes; /* of the block; SIZE_MAX: the seal says so no more, and it was overwritten */
    size_t
        changed; /* the first byte of the object that is not as it was left, as far as that is known; SIZE_MAX: none */
    bool is_before; /* none, but what lies before it is not as it was left */
} hardened_trace;

/* Of an object that was found overflown, or (`is_freed`) written to after its free. [any thread, at the process's
 * end] */
hardened_trace hardened_trace_of(space *s, const void *object, bool is_freed);

/* ---- what is kept back (quarantine.c) ----------------------------------------------------------------------- */

/* Of a new heap, whose zone is there. */
void hardened_begin(heap *h);
/* All that the heap keeps back goes to the slabs: who asks for memory wants it more than surprises for others. Returns
 * how many objects. [owner] */
size_t hardened_trim(heap *h);
/* Does it keep anything back? [owner] */
bool hardened_holds_any(const heap *h);

#endif
