/* SPDX-License-Identifier: MIT
 *
 * Large objects that rest after their free, floor 3, and which of them serves a request; addresses that the system did
 * not take back are kept here too. Whoever calls holds large.lock. What may rest, and for how long: large.h.
 */
#ifndef SLABMALLOC_HEAP_LARGE_REST_H
#define SLABMALLOC_HEAP_LARGE_REST_H

#include "heap/large.h"

/* The block, which is in no list, rests from now on, as the newest. */
void rest_begin(large_space *l, large_block *b);
/* A resting block of at least `bytes`, which rests no more; NULL: there is none. */
large_block *rest_take(large_space *l, size_t bytes, size_t align);
/* The block, in no list, gets at least `bytes`, more than it has: by what rests behind it, and for what is still
 * missing by the kernel, which may move it. False: the system refuses, errno says why, and nothing has changed. */
bool rest_extend(large_space *l, large_block *b, size_t bytes);
/* The block ends where it ends: what is behind it is its neighbour no more. */
void rest_part_behind(large_block *b);
/* May any request, however short, be served with a part of a block of so many bytes? */
bool rest_is_short(const large_space *l, size_t bytes);
/* A block of addresses without memory that serves the request with little waste; NULL: there is none. */
large_block *hollow_take(large_space *l, size_t bytes, size_t align);

/* A resting block goes back to the system; returns the bytes that it still held and that went. Where the system can't
 * cut it out of its mapping (vm.max_map_count) its memory goes back at least, unless it is locked, and its addresses
 * are kept for another block. */
size_t rest_unmap(large_space *l, large_block *b);
/* A step of giving back: the last bytes of the block, from an address on that cuts no huge page, or all of it if there
 * are not more. Returns the bytes that went. */
size_t rest_step(large_space *l, large_block *b);
/* Makes room for what the system refuses, by the oldest that goes. False: nothing rests, or nothing of it goes. */
bool rest_yields(large_space *l);

/* For those who still have the address of what is there no more. */
void leave_trace(large_space *l, const large_block *b, bool was_moved);

#endif
