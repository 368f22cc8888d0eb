/* SPDX-License-Identifier: MIT
 *
 * The remote-free protocol, floor 2: anyone frees, the owner collects. No lock, and no list is followed but by the
 * owner.
 *
 *     free by another (F)                                 collect by the owner (C)
 *     F1  old = fetch_or(remote word, bit)                C1  list = exchange(sc.pending, NULL)
 *         old has the bit: double free, end               C2  for each slab of it: its link first, then
 *     F2  while old == 0, and there is a level above:     C3  exchange(top, 0), for each bit of it the word below,
 *             old = fetch_or(word above, its bit)                 and so on down to the bits themselves
 *     F3  if old == 0, at the top now:                    C4  local |= bits
 *             push the slab on sc.pending
 *
 * Two rules. Who finds a word zero owes the news of it one level up, and at the top to the owner; who finds it non-zero
 * owes nothing. And the owner takes the words of slabs that it popped, and of no others.
 *
 * Call an epoch of a word the time from its change to non-zero until the exchange that zeroes it; it has one beginner.
 *   1. A word is exchanged only after the beginner of its epoch has told the level above: the owner comes to a word by
 *      its bit above, which an epoch sets once and which is taken before the epoch ends. For the top, read "its slab on
 *      the stack".
 *   2. So a slab is on the stack at most once: a second push needs a second epoch of the top, after the pop and C2.
 *   3. Nothing is lost: once all freers have returned, every non-zero word is announced up to the stack, and one
 *      collect takes it. Before that, those who joined an epoch wait for its beginner to go on: a delay, no more.
 *   4. Nothing is doubled: fetch_or gives a bit to one freer, exchange takes it once.
 *   5. A slab whose objects have all been taken is touched by no freer any more (by 1, also by no beginner): its page
 *      may leave at once, and its record may serve another.
 * No location is written by one side and another read by it first, so release and acquire suffice: every fetch_or and
 * exchange is acq_rel (contents of the object, levels from below to above, the link from C2 to the next F3), the push
 * releases, the pop acquires. The full argument, and a model that fails with any step left out, are in
 * tests/model/spin.
 *
 * fork. A freer that the child has not got may have been anywhere between F1 and F3: then nobody is left who owes the
 * news, and whoever frees beside it later would wait for ever. So the child tells all news anew, while it has one
 * thread: every stack is emptied, every summary made what level 0 says, and each slab pushed whose top is not zero.
 * After that, as at any time when no freer is at work:  remote is not empty  <=>  the slab is on the stack.
 */
#ifndef SLABMALLOC_ZONE_REMOTE_H
#define SLABMALLOC_ZONE_REMOTE_H

#include "zone/sc.h"

/* [any thread] Frees `object`, or the slot at `offset` of slab `s`, for the owner to collect. */
slabmalloc_status remote_deallocate(slabmalloc_sc *sc, void *object);
slabmalloc_status remote_free(slabmalloc_sc *sc, slab *s, uintptr_t offset);

/* [owner] Takes over what others freed in slabs of this allocator; returns how many objects. */
size_t remote_collect(slabmalloc_sc *sc);

/* [no other thread runs, or will go on] The stack is emptied; then each slab of the allocator is announced anew. Reads
 * and writes what freers do, and nothing of the owner's. */
void remote_forget_news(slabmalloc_sc *sc);
void remote_tell_again(slab *s);

#endif
