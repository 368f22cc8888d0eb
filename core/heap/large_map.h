/* SPDX-License-Identifier: MIT
 *
 * What large objects are made of, floor 3: a record, and a mapping with the huge pages in it or the guards around it.
 * Whoever calls holds large.lock. What a block is, and when it goes back: large.h.
 */
#ifndef SLABMALLOC_HEAP_LARGE_MAP_H
#define SLABMALLOC_HEAP_LARGE_MAP_H

#include "heap/large.h"

/* Zeroed; NULL: the system refuses. */
large_block *block_new(large_space *l);
void block_delete(large_space *l, large_block *b);

ALWAYS_INLINE bool block_may_be_huge(const large_space *l, size_t bytes)
{
    return l->huge.bytes != 0 && bytes >= l->huge.bytes;
}

/* Fresh memory of `bytes` for the block; false: the system refuses. */
bool block_map(large_space *l, large_block *b, size_t bytes, size_t align);
/* errno or 0. */
int block_unmap(large_space *l, const large_block *b);
/* The block's mapping gets longer, and may move: its address then; NULL: the system refuses, and errno says why. */
void *block_grow(const large_space *l, uintptr_t address, size_t old_bytes, size_t new_bytes);
/* It gets shorter, and stays where it is; false: the system refuses, and errno says why. */
bool block_cut(const large_space *l, const large_block *b, size_t bytes);
/* For memory that has just come, or has just got this length. */
void block_advise(const large_space *l, uintptr_t address, size_t bytes);
/* This memory of the block is about to go back: no huge page reaches across its ends. */
void block_cut_ends(const large_space *l, const large_block *b, uintptr_t begin, uintptr_t end);

/* A guarded block's memory goes back, its addresses later; false: the system can't do so. */
bool block_fence(large_space *l, const large_block *b);
/* All such addresses go back; returns bytes. */
size_t fences_end(large_space *l);

#endif
