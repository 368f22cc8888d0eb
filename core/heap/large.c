/* SPDX-License-Identifier: MIT
 *
 * Large objects: see large.h for what a block is and when it goes back.
 */
#include "heap/large.h"

#include <errno.h>

#include "base/check.h"

enum { MAPPINGS_SHARE = 8 }; /* two mappings each: a quarter of what a process can have */

enum { FIRST_BUCKETS = 256, WASTE_SHARE = 4, LIVE_SHARE = 8 };

/* One step of giving back: about a quarter of a millisecond of the kernel's time. (A huge page takes no longer.) Who takes
 * or frees so many bytes pays for as many, and a step at most besides, however large the blocks are that go for them. */
#define DECAY_STEP_BYTES ((size_t)2 << 20)

static size_t bucket_of(const large_space *l, uintptr_t address)
{
    return (size_t)(hash_multiply(address / SLABMALLOC_MIN_PAGE_BYTES) >> 32) & (l->bucket_count - 1);
}

static large_block **find(const large_space *l, uintptr_t address)
{
    large_block **at = &l->buckets[bucket_of(l, address)];
    while (*at != NULL && (*at)->address != address)
        at = &(*at)->next;
    return at;
}

bool large_init(large_space *l, const huge_use *huge, bool is_guarded)
{
    *l = (large_space){.bucket_count = FIRST_BUCKETS, .huge = *huge, .is_guarded = is_guarded};
    l->most_guarded = is_guarded ? os_most_mappings() / MAPPINGS_SHARE : 0;
    pthread_mutex_init(&l->lock, NULL);
    store_init(&l->store, is_guarded);
    l->buckets = store_take(&l->store, FIRST_BUCKETS * sizeof(large_block *));
    return l->buckets != NULL;
}

/* ---- records --------------------------------------------------------------------------------------------- */

static large_block *record_new(large_space *l)
{
    large_block *b = l->unused;
    if (b == NULL)
        return store_take(&l->store, sizeof(large_block));
    l->unused = b->next;
    return b;
}

static void record_delete(large_space *l, large_block *b)
{
    b->next = l->unused;
    l->unused = b;
}

/* ---- huge pages ------------------------------------------------------------------------------------------ */

static bool may_be_huge(const large_space *l, size_t bytes) { return l->huge.bytes != 0 && bytes >= l->huge.bytes; }

/* Memory that has just come, or has just got this length. */
static void advise(const large_space *l, uintptr_t address, size_t bytes)
{
    if (l->huge.is_wanted && may_be_huge(l, bytes))
        huge_advise((void *)address, bytes);
    else if (l->huge.is_unasked && !may_be_huge(l, bytes))
        huge_refuse((void *)address, bytes); /* with its neighbours it could be part of one */
}

/* Memory of a block of `bytes` is about to go back: no huge page reaches across its ends. */
static void cut_ends(const large_space *l, size_t bytes, uintptr_t begin, uintptr_t end)
{
    if (!may_be_huge(l, bytes))
        return;
    if (begin % l->huge.bytes != 0)
        huge_cut(begin);
    if (end % l->huge.bytes != 0)
        huge_cut(end - 1);
}

/* Fresh memory of `bytes` for the block; false: the system refuses. */
static bool map(large_space *l, large_block *b, size_t bytes, size_t align)
{
    b->is_guarded = l->is_guarded && l->guarded_count < l->most_guarded;
    b->address = (uintptr_t)(b->is_guarded ? os_map_guarded(bytes, align) : slabmalloc_os_map(bytes, align, false));
    l->guarded_count += b->address != 0 && b->is_guarded;
    return b->address != 0;
}

static int unmap(large_space *l, const large_block *b)
{
    int reason = b->is_guarded ? os_unmap_guarded((void *)b->address, b->bytes)
                               : slabmalloc_os_unmap((void *)b->address, b->bytes);
    l->guarded_count -= reason == 0 && b->is_guarded;
    return reason;
}

/* ---- fences ---------------------------------------------------------------------------------------------- */

/* The oldest addresses are free again. (Where the system can't cut them out of a mapping they stay what they are.) */
static size_t unfence(large_space *l)
{
    large_fence *oldest = &l->fences[l->next_fence], gone = *oldest;
    *oldest = (large_fence){.address = 0};
    l->next_fence = (l->next_fence + 1) % LARGE_FENCES;
    if (gone.address != 0)
        os_unmap_guarded((void *)gone.address, gone.bytes);
    return gone.bytes;
}

static size_t unfence_all(large_space *l)
{
    size_t bytes = 0;
    for (int i = 0; i < LARGE_FENCES; i++)
        bytes += unfence(l);
    return bytes;
}

/* A guarded block's memory goes back, its addresses later; false: the system can't do so. */
static bool fence(large_space *l, const large_block *b)
{
    if (os_fence((void *)b->address, b->bytes) != 0)
        return false;
    size_t place = l->next_fence;
    unfence(l);
    l->fences[place] = (large_fence){b->address, b->bytes};
    l->guarded_count--;
    return true;
}

/* slabmalloc_os_remap of a block. */
static void *remap(const large_space *l, uintptr_t address, size_t old_bytes, size_t new_bytes)
{
    void *object = (void *)address, *moved;
    if (new_bytes < old_bytes) {
        cut_ends(l, old_bytes, address + new_bytes, address + old_bytes);
        moved = slabmalloc_os_remap(object, old_bytes, new_bytes);
    } else {
        moved = may_be_huge(l, new_bytes) ? os_grow(object, old_bytes, new_bytes, l->huge.bytes)
                                          : slabmalloc_os_remap(object, old_bytes, new_bytes);
    }
    bool is_huge_now = may_be_huge(l, new_bytes);
    if (moved != NULL && l->huge.is_unasked && is_huge_now && !may_be_huge(l, old_bytes))
        huge_advise(moved, new_bytes); /* it was refused while it was short */
    else if (moved != NULL && may_be_huge(l, old_bytes) != is_huge_now)
        advise(l, (uintptr_t)moved, new_bytes);
    return moved;
}

/* ---- resting blocks -------------------------------------------------------------------------------------- */

static void rest_begin(large_space *l, large_block *b)
{
    b->older = l->newest;
    b->newer = NULL;
    *(l->newest != NULL ? &l->newest->newer : &l->oldest) = b;
    l->newest = b;
    b->purged_bytes = 0;
    l->resting_bytes += b->bytes;
}

static void rest_end(large_space *l, large_block *b)
{
    *(b->newer != NULL ? &b->newer->older : &l->newest) = b->older;
    *(b->older != NULL ? &b->older->newer : &l->oldest) = b->newer;
    l->resting_bytes -= b->bytes - b->purged_bytes;
}

static void leave_trace(large_space *l, const large_block *b, bool was_moved)
{
    l->traces[l->trace_count++ % LARGE_TRACES] =
        (large_trace){.address = b->address, .bytes = b->bytes, .was_moved = was_moved};
}

/* A resting block goes back to the system; returns the bytes that it still held and that went. Where the system can't
 * cut it out of its mapping (vm.max_map_count) its memory goes back at least, unless it is locked, and its addresses are
 * kept for another block. */
static size_t rest_unmap(large_space *l, large_block *b)
{
    size_t held = b->bytes - b->purged_bytes;
    rest_end(l, b);
    cut_ends(l, b->bytes, b->address, b->address + held);
    leave_trace(l, b, false);
    if (b->is_guarded ? fence(l, b) : unmap(l, b) == 0) {
        record_delete(l, b);
    } else {
        if (slabmalloc_os_purge((void *)b->address, b->bytes) == 0)
            b->purged_bytes = b->bytes;
        else
            held = 0;
        b->next = l->hollow;
        l->hollow = b;
    }
    l->given_back_bytes += held;
    return held;
}

/* Makes room for what the system refuses. False: nothing rests, or nothing of it goes. */
static bool rest_yields(large_space *l)
{
    return unfence_all(l) > 0 || (l->oldest != NULL && rest_unmap(l, l->oldest) > 0);
}

/* A step of giving back: the last bytes of the block, from an address on that cuts no huge page, or all of it if there are not
 * more. Returns the bytes that went. */
static size_t rest_step(large_space *l, large_block *b)
{
    size_t step = max_size(DECAY_STEP_BYTES, l->huge.bytes);
    uintptr_t end = b->address + b->bytes - b->purged_bytes, begin = (end - 1) & ~(uintptr_t)(step - 1);
    size_t bytes = end - begin;
    if (begin <= b->address)
        return rest_unmap(l, b);
    cut_ends(l, b->bytes, begin, end);
    if (slabmalloc_os_purge((void *)begin, bytes) != 0)
        return rest_unmap(l, b);
    b->purged_bytes += bytes;
    l->resting_bytes -= bytes;
    l->given_back_bytes += bytes;
    return bytes;
}

/* The resting block that serves the request with the least waste, at most a quarter of it; else the largest of those
 * that have half of it or more, which grows: what grows by steps then takes its own memory along. NULL: there is none.
 */
static large_block *rest_choose(const large_space *l, size_t bytes, size_t align)
{
    large_block *best = NULL, *half = NULL;
    for (large_block *b = l->newest; b != NULL; b = b->older) {
        if (b->address % align != 0)
            continue;
        if (b->bytes >= bytes) {
            if (b->bytes - bytes <= bytes / WASTE_SHARE && (best == NULL || b->bytes < best->bytes))
                best = b;
        } else if (b->bytes >= bytes / 2 && align <= SLABMALLOC_MIN_PAGE_BYTES && b->purged_bytes == 0 &&
                   (half == NULL || b->bytes > half->bytes)) {
            half = b;
        }
    }
    return best != NULL ? best : half;
}

/* A block of addresses without memory that serves the request with little waste; NULL: there is none. */
static large_block *hollow_take(large_space *l, size_t bytes, size_t align)
{
    for (large_block **at = &l->hollow; *at != NULL; at = &(*at)->next) {
        large_block *b = *at;
        if (b->bytes >= bytes && b->bytes - bytes <= (l->is_guarded ? 0 : bytes / WASTE_SHARE) &&
            b->address % align == 0) {
            *at = b->next;
            return b;
        }
    }
    return NULL;
}

/* A resting block of at least `bytes`, which rests no more; NULL: there is none. */
static large_block *rest_take(large_space *l, size_t bytes, size_t align)
{
    large_block *b = rest_choose(l, bytes, align);
    if (b == NULL)
        return NULL;
    if (b->bytes < bytes) {
        void *grown = remap(l, b->address, b->bytes, bytes);
        if (grown == NULL)
            return NULL;
        l->resting_bytes += bytes - b->bytes;
        if ((uintptr_t)grown != b->address)
            leave_trace(l, b, false);
        b->address = (uintptr_t)grown;
        b->bytes = bytes;
    }
    rest_end(l, b);
    l->reused_count++;
    return b;
}

/* ---- live blocks ------------------------------------------------------------------------------------------ */

/* Twice the buckets, if there is memory for them; the old ones stay in the store: together less than the new. */
static void grow(large_space *l)
{
    size_t old_count = l->bucket_count;
    large_block **old = l->buckets, **buckets = store_take(&l->store, 2 * old_count * sizeof(large_block *));
    if (buckets == NULL)
        return;
    l->buckets = buckets;
    l->bucket_count = 2 * old_count;
    for (size_t i = 0; i < old_count; i++)
        for (large_block *b = old[i], *next; b != NULL; b = next) {
            next = b->next;
            large_block **at = &l->buckets[bucket_of(l, b->address)];
            b->next = *at;
            *at = b;
        }
}

static void enter(large_space *l, large_block *b)
{
    if (l->live_count >= l->bucket_count)
        grow(l);
    large_block **at = &l->buckets[bucket_of(l, b->address)];
    b->next = *at;
    *at = b;
    l->live_count++;
    l->live_bytes += b->bytes;
    while (l->oldest != NULL && l->live_bytes + l->resting_bytes > l->peak_bytes)
        rest_step(l, l->oldest);
    l->peak_bytes = max_size(l->peak_bytes, l->live_bytes + l->resting_bytes);
}

static void leave(large_space *l, large_block **at)
{
    l->live_count--;
    l->live_bytes -= (*at)->bytes;
    *at = (*at)->next;
}

/* ---- the face -------------------------------------------------------------------------------------------- */

/* A block of fresh memory; what rests goes back if the system refuses otherwise. NULL: it refuses all the same. */
static large_block *fresh_take(large_space *l, size_t bytes, size_t align)
{
    large_block *b = hollow_take(l, bytes, align);
    if (b != NULL)
        return b;
    do
        b = record_new(l);
    while (b == NULL && rest_yields(l));
    if (b == NULL)
        return NULL;
    align = max_size(align, SLABMALLOC_MIN_PAGE_BYTES);
    bool is_mapped = may_be_huge(l, bytes) && map(l, b, bytes, max_size(align, l->huge.bytes));
    while (!is_mapped && !(is_mapped = map(l, b, bytes, align)) && rest_yields(l))
        ;
    b->bytes = b->purged_bytes = bytes;
    if (!is_mapped) {
        record_delete(l, b);
        return NULL;
    }
    advise(l, b->address, bytes);
    return b;
}

static void *allocate_locked(large_space *l, size_t bytes, size_t align, bool *is_zero)
{
    large_block *b = rest_take(l, bytes, align);
    if (b == NULL)
        b = fresh_take(l, bytes, align);
    if (b == NULL)
        return NULL;
    *is_zero = b->purged_bytes == b->bytes;
    enter(l, b);
    l->served_count++;
    return (void *)b->address;
}

void *large_allocate(large_space *l, size_t bytes, size_t align, bool *is_zero)
{
    if (bytes > SIZE_MAX / 2 || align > SIZE_MAX / 4)
        return NULL;
    int kept = errno; /* a refusal may be followed by something that is granted */
    bytes = align_up(max_size(bytes, 1), os_page_bytes());
    pthread_mutex_lock(&l->lock);
    void *object = allocate_locked(l, bytes, align, is_zero);
    pthread_mutex_unlock(&l->lock);
    errno = kept;
    return object;
}

bool large_free(large_space *l, void *object, const large_rest *rest)
{
    pthread_mutex_lock(&l->lock);
    large_block **at = find(l, (uintptr_t)object), *b = *at;
    if (b != NULL) {
        leave(l, at);
        b->freed_ms = rest->now_ms;
        rest_begin(l, b);
        size_t bound = max_size(rest->bound_bytes, (l->live_bytes + rest->other_live_bytes) / LIVE_SHARE);
        /* The newest may be larger than the bound by itself: a loop over temporaries of its size wants it again. */
        while (l->resting_bytes > bound && l->oldest != b)
            rest_step(l, l->oldest);
        if (rest->bound_bytes == 0)
            rest_unmap(l, b);
    }
    pthread_mutex_unlock(&l->lock);
    return b != NULL;
}

size_t large_usable_bytes(large_space *l, const void *object)
{
    pthread_mutex_lock(&l->lock);
    const large_block *b = *find(l, (uintptr_t)object);
    size_t bytes = b == NULL ? 0 : b->bytes;
    pthread_mutex_unlock(&l->lock);
    return bytes;
}

/* The block by the kernel to another size; what rests goes back if there is no room otherwise. NULL: it refuses. */
static void *resize(large_space *l, const large_block *b, size_t bytes)
{
    void *moved;
    do
        moved = remap(l, b->address, b->bytes, bytes);
    while (moved == NULL && (errno == ENOMEM || errno == EAGAIN) && rest_yields(l));
    return moved;
}

void *large_resize(large_space *l, void *object, size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return NULL;
    int kept = errno;
    bytes = align_up(max_size(bytes, 1), os_page_bytes());
    void *moved = NULL;
    pthread_mutex_lock(&l->lock);
    large_block **at = find(l, (uintptr_t)object), *b = *at;
    if (b != NULL && (!l->is_guarded || b->bytes == bytes)) {
        moved = b->bytes == bytes ? object : resize(l, b, bytes);
        if (moved != NULL) {
            leave(l, at);
            if (moved != object)
                leave_trace(l, b, true);
            l->given_back_bytes += b->bytes > bytes ? b->bytes - bytes : 0;
            b->address = (uintptr_t)moved;
            b->bytes = bytes;
            enter(l, b);
        }
    }
    pthread_mutex_unlock(&l->lock);
    errno = kept;
    return moved;
}

void large_shed(large_space *l, size_t bytes)
{
    pthread_mutex_lock(&l->lock);
    for (size_t shed = 0; shed < bytes && l->oldest != NULL;)
        shed += rest_step(l, l->oldest);
    pthread_mutex_unlock(&l->lock);
}

bool large_decay(large_space *l, uint64_t before_ms)
{
    bool is_more = false;
    pthread_mutex_lock(&l->lock);
    large_block *b = l->oldest;
    if (b != NULL && b->freed_ms < before_ms) {
        rest_step(l, b);
        is_more = l->oldest != NULL && l->oldest->freed_ms < before_ms;
    }
    pthread_mutex_unlock(&l->lock);
    return is_more;
}

size_t large_trim(large_space *l)
{
    size_t bytes = 0;
    pthread_mutex_lock(&l->lock);
    while (l->oldest != NULL)
        bytes += rest_unmap(l, l->oldest);
    bytes += unfence_all(l);
    pthread_mutex_unlock(&l->lock);
    return bytes;
}

void large_end(large_space *l)
{
    large_trim(l);
    for (size_t i = 0; l->buckets != NULL && i < l->bucket_count; i++)
        for (const large_block *b = l->buckets[i]; b != NULL; b = b->next)
            unmap(l, b);
    for (const large_block *b = l->hollow; b != NULL; b = b->next)
        unmap(l, b);
    store_end(&l->store);
    pthread_mutex_destroy(&l->lock);
}
