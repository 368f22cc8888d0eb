/* SPDX-License-Identifier: MIT
 *
 * Large objects: see large.h for what a block is and when it goes back. Here: live blocks, in a table by address.
 */
#include "heap/large.h"

#include <errno.h>

#include "heap/large_map.h"
#include "heap/large_rest.h"

enum { MAPPINGS_SHARE = 8 }; /* two mappings each: a quarter of what a process can have */

enum { FIRST_BUCKETS = 256, LIVE_SHARE = 8 };

/* About a millisecond of the kernel's time. */
#define PAID_AT_ONCE_BYTES ((size_t)16 << 20)
#define LEAST_PAID_BYTES ((size_t)64 << 10)

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

/* The newest is left alone, unless it is in the way of what is live. */
static bool can_pay(const large_space *l)
{
    return l->oldest != NULL && (l->oldest != l->newest || l->live_bytes + l->resting_bytes > l->most_live_bytes);
}

/* What is owed is given back, the oldest first, until that is `bytes` or more. */
static void pay(large_space *l, size_t bytes)
{
    for (size_t paid = 0; l->owed_bytes > 0 && paid < bytes && can_pay(l);) {
        size_t step = rest_step(l, l->oldest);
        l->owed_bytes -= min_size(step, l->owed_bytes);
        paid += max_size(step, LEAST_PAID_BYTES); /* what has no memory has to be unmapped as well */
    }
    if (!can_pay(l))
        l->owed_bytes = 0;
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
    l->most_live_bytes = max_size(l->most_live_bytes, l->live_bytes);
    if (l->live_bytes + l->resting_bytes > l->most_live_bytes)
        l->owed_bytes = max_size(l->owed_bytes, l->live_bytes + l->resting_bytes - l->most_live_bytes);
    pay(l, PAID_AT_ONCE_BYTES);
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
        b = block_new(l);
    while (b == NULL && rest_yields(l));
    if (b == NULL)
        return NULL;
    align = max_size(align, SLABMALLOC_MIN_PAGE_BYTES);
    bool is_mapped = block_may_be_huge(l, bytes) && block_map(l, b, bytes, max_size(align, l->huge.bytes));
    while (!is_mapped && !(is_mapped = block_map(l, b, bytes, align)) && rest_yields(l))
        ;
    b->bytes = b->purged_bytes = bytes;
    b->in_huge = block_may_be_huge(l, bytes);
    if (!is_mapped) {
        block_delete(l, b);
        return NULL;
    }
    block_advise(l, b->address, bytes);
    return b;
}

static void *allocate_locked(large_space *l, size_t bytes, size_t align, bool *is_zero)
{
    large_block *b = rest_take(l, bytes, align);
    if (b == NULL && (b = fresh_take(l, bytes, align)) != NULL)
        b->rested_bytes = 0;
    if (b == NULL)
        return NULL;
    *is_zero = b->purged_bytes == b->bytes;
    b->has_grown = false;
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

/* What has grown while it was live, and is not short, is none that the next which begins as short finds. So it is
 * paid for with what rests, as far as its memory has not come from there: of a loop over such blocks one rests, not
 * all. */
static size_t owed_for(const large_space *l, const large_block *b)
{
    return b->has_grown && !rest_is_short(l, b->bytes) ? b->bytes - min_size(b->rested_bytes, b->bytes) : 0;
}

bool large_free(large_space *l, void *object, const large_rest *rest)
{
    pthread_mutex_lock(&l->lock);
    large_block **at = find(l, (uintptr_t)object), *b = *at;
    if (b != NULL) {
        leave(l, at);
        b->freed_ms = rest->now_ms;
        rest_begin(l, b);
        l->owed_bytes += owed_for(l, b);
        /* The newest may be larger than the bound by itself: a loop over temporaries of its size wants it again. */
        size_t bound = max_size(rest->bound_bytes, (l->live_bytes + rest->other_live_bytes) / LIVE_SHARE);
        if (l->resting_bytes > bound)
            l->owed_bytes = max_size(l->owed_bytes, l->resting_bytes - bound);
        pay(l, PAID_AT_ONCE_BYTES);
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

/* Gives back what is behind; false: the system refuses. */
static bool cut_to(large_space *l, large_block *b, size_t bytes)
{
    if (!block_cut(l, b, bytes))
        return false;
    rest_part_behind(b);
    l->given_back_bytes += b->bytes - bytes;
    b->bytes = bytes;
    return true;
}

static bool is_want(int reason) { return reason == ENOMEM || reason == EAGAIN; }

/* The block to another size; what rests goes back if there is no room otherwise. 0, or why the system refuses. */
static int resize(large_space *l, large_block *b, size_t bytes)
{
    large_block before = *b;
    int reason;
    do
        reason = (bytes < b->bytes ? cut_to(l, b, bytes) : rest_extend(l, b, bytes)) ? 0 : errno;
    while (is_want(reason) && rest_yields(l));
    if (b->address != before.address)
        leave_trace(l, &before, true);
    b->has_grown |= b->bytes > before.bytes;
    return reason;
}

void *large_resize(large_space *l, void *object, size_t bytes, size_t *missing_bytes)
{
    *missing_bytes = 0;
    if (bytes > SIZE_MAX / 2)
        return NULL;
    int kept = errno;
    bytes = align_up(max_size(bytes, 1), os_page_bytes());
    void *resized = NULL;
    pthread_mutex_lock(&l->lock);
    large_block **at = find(l, (uintptr_t)object), *b = *at;
    if (b != NULL && b->bytes == bytes) {
        resized = object;
    } else if (b != NULL && !l->is_guarded) {
        leave(l, at);
        int reason = resize(l, b, bytes);
        if (reason == 0)
            resized = (void *)b->address;
        else if (is_want(reason) && bytes > b->bytes)
            *missing_bytes = bytes - b->bytes;
        enter(l, b);
        l->served_count += resized != NULL && resized != object; /* as one whose contents were copied */
    }
    pthread_mutex_unlock(&l->lock);
    errno = kept;
    return resized;
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
    pthread_mutex_lock(&l->lock);
    if (l->owed_bytes > 0)
        pay(l, 1);
    else if (l->oldest != NULL && l->oldest->freed_ms < before_ms)
        rest_step(l, l->oldest);
    bool is_more = l->owed_bytes > 0 || (l->oldest != NULL && l->oldest->freed_ms < before_ms);
    pthread_mutex_unlock(&l->lock);
    return is_more;
}

size_t large_trim(large_space *l)
{
    size_t bytes = 0;
    pthread_mutex_lock(&l->lock);
    while (l->oldest != NULL)
        bytes += rest_unmap(l, l->oldest);
    bytes += fences_end(l);
    pthread_mutex_unlock(&l->lock);
    return bytes;
}

void large_end(large_space *l)
{
    large_trim(l);
    for (size_t i = 0; l->buckets != NULL && i < l->bucket_count; i++)
        for (const large_block *b = l->buckets[i]; b != NULL; b = b->next)
            block_unmap(l, b);
    for (const large_block *b = l->hollow; b != NULL; b = b->next)
        block_unmap(l, b);
    store_end(&l->store);
    pthread_mutex_destroy(&l->lock);
}
