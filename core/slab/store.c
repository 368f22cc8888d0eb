/* SPDX-License-Identifier: MIT
 *
 * The bookkeeping of a zone: see pager.h. Chunks grow with the store, so that a small zone stays small.
 */
#include "base/check.h"
#include "slab/pager.h"

typedef struct store_chunk {
    struct store_chunk *next;
    size_t bytes;
} store_chunk;

typedef struct store_words {
    struct store_words *next;
} store_words;

enum { CHUNK_MIN_BYTES = 16 * 1024, CHUNK_MAX_BYTES = 1024 * 1024, RECORDS_AT_ONCE = 8 };

_Static_assert(sizeof(store_chunk) <= CACHE_LINE_BYTES, "a chunk's header is one line");

void store_init(store *s) { *s = (store){.chunks = NULL}; }

void store_end(store *s)
{
    for (store_chunk *chunk = s->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        slabmalloc_os_unmap(chunk, chunk->bytes);
    }
    store_init(s);
}

void *store_take(store *s, size_t bytes)
{
    bytes = align_up(bytes, CACHE_LINE_BYTES);
    if (s->chunks == NULL || s->chunks->bytes - s->used_bytes < bytes) {
        size_t growth = min_size(max_size(s->bytes, CHUNK_MIN_BYTES), CHUNK_MAX_BYTES);
        size_t chunk_bytes = align_up(max_size(growth, bytes + CACHE_LINE_BYTES), os_page_bytes());
        store_chunk *chunk = slabmalloc_os_map(chunk_bytes, SLABMALLOC_MIN_PAGE_BYTES, false);
        if (chunk == NULL)
            return NULL;
        *chunk = (store_chunk){.next = s->chunks, .bytes = chunk_bytes};
        s->chunks = chunk;
        s->bytes += chunk_bytes;
        s->used_bytes = CACHE_LINE_BYTES;
    }
    void *taken = (char *)s->chunks + s->used_bytes;
    s->used_bytes += bytes;
    return taken;
}

slab *store_take_record(store *s)
{
    if (s->records == NULL) {
        slab *fresh = store_take(s, RECORDS_AT_ONCE * CACHE_LINE_BYTES);
        if (fresh == NULL)
            return NULL;
        for (int i = RECORDS_AT_ONCE; i-- > 0;)
            store_give_record(s, (slab *)((char *)fresh + i * CACHE_LINE_BYTES));
    }
    slab *record = s->records;
    s->records = record->next;
    return record;
}

void store_give_record(store *s, slab *record)
{
    /* attention, pending_next and sc stay: a freer that is late may have the record on a stack, or be about to. */
    atomic_store_explicit(&record->page, 0, memory_order_relaxed);
    record->list = SLAB_UNUSED;
    record->next = s->records;
    s->records = record;
}

/* k with 2^k >= count. */
static uint32_t words_class(size_t count)
{
    ASSERT(count > 0);
    return count == 1 ? 0 : (uint32_t)(WORD_BITS - __builtin_clzll(count - 1));
}

word *store_take_words(store *s, size_t count)
{
    uint32_t k = words_class(count);
    store_words *block = s->words[k];
    if (block == NULL)
        return store_take(s, sizeof(word) << k);
    s->words[k] = block->next;
    return (word *)block;
}

void store_give_words(store *s, word *words, size_t count)
{
    store_words *block = (store_words *)words;
    uint32_t k = words_class(count);
    block->next = s->words[k];
    s->words[k] = block;
}
