/* SPDX-License-Identifier: MIT
 *
 * Where memory comes from, floor 1. This room and the heap's arena are the only ones that make system calls. Here: the
 * system's mappings (public, in slabmalloc.h), and the store from which a zone takes its bookkeeping.
 */
#ifndef SLABMALLOC_SLAB_PAGER_H
#define SLABMALLOC_SLAB_PAGER_H

#include "slab/bitset.h"
#include "slab/slab.h"
#include "slabmalloc.h"

/* Bookkeeping of one zone: memory is taken by bumping through chunks from the system, and goes back to it only when the
 * store ends. Slab records and bitsets come back to it meanwhile and are handed out again; a record only ever becomes a
 * record, so a late reader of one reads a record. One owner at a time.
 *     bytes = sum of the chunks' sizes */
typedef struct store {
    struct store_chunk *chunks;
    size_t used_bytes, bytes;
    slab *records;                        /* unused records, linked by next */
    struct store_words *words[WORD_BITS]; /* blocks of 2^k words */
} store;

void store_init(store *s);
void store_end(store *s);
/* Zeroed, aligned to a cache line, kept until the store ends; NULL: the system refused. */
void *store_take(store *s, size_t bytes);
slab *store_take_record(store *s);
void store_give_record(store *s, slab *record);
word *store_take_words(store *s, size_t count);
void store_give_words(store *s, word *words, size_t count);

size_t os_page_bytes(void);

#endif
