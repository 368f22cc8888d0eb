/* SPDX-License-Identifier: MIT
 *
 * The bookkeeping of a zone: see pager.h. Chunks grow with the store, so that a small zone stays small.
 */
#include "base/check.h"
#include "slab/huge.h"
#include "slab/pager.h"

typedef struct store_chunk {
    struct store_chunk *next;
    size_t bytes;
} store_chunk;

enum { CHUNK_MIN_BYTES = 16 * 1024, CHUNK_MAX_BYTES = 1024 * 1024 };

_Static_assert(sizeof(store_chunk) <= CACHE_LINE_BYTES, "a chunk's header is one line");

void store_init(store *s, bool is_guarded) { *s = (store){.is_guarded = is_guarded}; }

void store_end(store *s)
{
    for (store_chunk *chunk = s->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        if (s->is_guarded)
            os_unmap_guarded(chunk, chunk->bytes);
        else
            slabmalloc_os_unmap(chunk, chunk->bytes);
    }
    store_init(s, s->is_guarded);
}

static bool has_room(const store *s, size_t bytes)
{
    return s->chunks != NULL && s->chunks->bytes - s->used_bytes >= bytes;
}

/* Of at least so many bytes, its header included; false: the system refused. */
static bool add_chunk(store *s, size_t least_bytes, bool is_unasked)
{
    size_t bytes = align_up(least_bytes, os_page_bytes());
    store_chunk *chunk = s->is_guarded ? os_map_guarded(bytes, SLABMALLOC_MIN_PAGE_BYTES)
                                       : slabmalloc_os_map(bytes, SLABMALLOC_MIN_PAGE_BYTES, false);
    if (chunk == NULL)
        return false;
    if (is_unasked)
        huge_refuse(chunk, bytes);
    *chunk = (store_chunk){.next = s->chunks, .bytes = bytes};
    s->chunks = chunk;
    atomic_store_explicit(&s->bytes, store_bytes(s) + bytes, memory_order_relaxed);
    s->used_bytes = CACHE_LINE_BYTES;
    return true;
}

bool store_reserve(store *s, size_t bytes, bool is_unasked)
{
    return has_room(s, bytes) || add_chunk(s, bytes + CACHE_LINE_BYTES, is_unasked);
}

void *store_take(store *s, size_t bytes)
{
    bytes = align_up(bytes, CACHE_LINE_BYTES);
    size_t growth = min_size(max_size(store_bytes(s), CHUNK_MIN_BYTES), CHUNK_MAX_BYTES);
    if (!has_room(s, bytes) && !add_chunk(s, max_size(growth, bytes + CACHE_LINE_BYTES), false))
        return NULL;
    void *taken = (char *)s->chunks + s->used_bytes;
    s->used_bytes += bytes;
    return taken;
}
