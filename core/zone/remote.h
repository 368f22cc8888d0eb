/* SPDX-License-Identifier: MIT
 *
 * The remote-free protocol, floor 2: anyone frees, the owner collects. No lock, and no list is followed but by the
 * owner.
 *
 *     free by another (F)                                 collect by the owner (C)
 *     F1  old = fetch_or(remote word, bit)                C1  list = exchange(sc.pending, NULL)
 *         old has the bit: double free, end                   for each slab of it, its link read first:
 *         old is not 0: end                               C2  exchange(is_pending, 0)
 *     F2  fetch_or(summary word above), and on up         C3  take the top summary word by exchange, for each bit of it
 *         while what was there is 0                           the word below, down to the bits themselves
 *     F3  if is_pending == 0 and                          C4  local |= bits
 *            exchange(is_pending, 1) == 0:
 *     F4      push the slab on sc.pending
 *
 * Nothing is lost. An epoch of a word lasts from its first bit (old == 0, by the freer that begins it) to the exchange
 * that takes it; whoever joins an epoch leaves the rest to the freer that began it.
 *   - A word is taken only by way of its bit in the summary, which is set once an epoch (F2) and cleared when it is taken.
 *     So a word is taken after the summary bit of its own epoch was set, never by an older one; by induction the same
 *     holds on every level. Whoever joins (old != 0) does so before the exchange, and is taken with the epoch.
 *   - Behind F2 comes F3 of the freer that began the epoch. F1, F2, F3, C2, C3 are sequentially consistent. If F3 reads
 *     is_pending != 0, the C2 that clears it comes later in that order, and the C3 behind it finds the bit. If F3 reads
 *     0, this freer (or another between the load and the exchange) pushes, and the C1 behind that push finds the slab.
 *     So once all freers have returned, one collect takes everything. Before that a bit may wait until the freer that
 *     began its epoch goes on: a delay, no more.
 * Nothing is doubled. F1 hands each bit to one freer; the exchange of C3 takes it once.
 * A slab is on the stack at most once. It is pushed by whoever turned is_pending from 0 to 1, and the owner turns it back
 * only after popping it. `pending_next` belongs to the pusher until C1, then to the owner; C1's exchange (acquire) and
 * F4's compare-and-swap (release) order the two.
 * The object's contents. The freer's writes come before F1 (release), the owner reuses the slot after C3 (acquire).
 * The page may go away once its last live object is collected: by the epochs above, every freer that had to touch its
 * bitset has done so by then. What a late freer may still touch is the record (F3, F4), and records stay. A record that
 * is pushed when it is unused, or already serves another page, is popped, found with nothing to take, and left alone.
 *
 * tests/model/spin checks this protocol, and that it fails with any step left out.
 */
#ifndef SLABMALLOC_ZONE_REMOTE_H
#define SLABMALLOC_ZONE_REMOTE_H

#include "zone/sc.h"

/* [any thread] Frees `object`, or the slot at `offset` of slab `s`, for the owner to collect. */
slabmalloc_status remote_deallocate(slabmalloc_sc *sc, void *object);
slabmalloc_status remote_free(slabmalloc_sc *sc, slab *s, uintptr_t offset);

/* [owner] Slots [0, count) of `s`, which is empty, go to its remote set until the owner collects. */
void remote_hold_back(slabmalloc_sc *sc, slab *s, uint32_t count);
/* [owner] Takes over what others freed in slabs of this allocator; returns how many objects. */
size_t remote_collect(slabmalloc_sc *sc);

#endif
