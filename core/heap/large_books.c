/* SPDX-License-Identifier: MIT
 *
 * The books of large objects, floor 3, read from outside: for audits, and for messages about an address.
 */
#include "heap/large.h"

static bool holds(uintptr_t begin, size_t bytes, uintptr_t address) { return address - begin < bytes; }

/* Live blocks or, where there is none, resting ones. [lock] */
static const large_block *find_holder(const large_space *l, uintptr_t address, large_state *state)
{
    *state = LARGE_LIVE;
    for (size_t i = 0; i < l->bucket_count; i++)
        for (const large_block *b = l->buckets[i]; b != NULL; b = b->next)
            if (holds(b->address, b->bytes, address))
                return b;
    *state = LARGE_RESTING;
    for (const large_block *b = l->newest; b != NULL; b = b->older)
        if (holds(b->address, b->bytes, address))
            return b;
    return NULL;
}

/* The latest first: of blocks that were at the same place it is the one that counts. [lock] */
static const large_trace *find_trace(const large_space *l, uintptr_t address)
{
    for (size_t i = l->trace_count; i > 0 && i + LARGE_TRACES > l->trace_count; i--) {
        const large_trace *t = &l->traces[(i - 1) % LARGE_TRACES];
        if (holds(t->address, t->bytes, address))
            return t;
    }
    return NULL;
}

large_state large_inspect(large_space *l, uintptr_t address, uintptr_t *begin, size_t *bytes)
{
    pthread_mutex_lock(&l->lock);
    large_state state;
    const large_block *b = find_holder(l, address, &state);
    const large_trace *t = b == NULL ? find_trace(l, address) : NULL;
    if (b == NULL)
        state = t == NULL ? LARGE_UNKNOWN : t->was_moved ? LARGE_MOVED : LARGE_GONE;
    *begin = b != NULL ? b->address : t != NULL ? t->address : 0;
    *bytes = b != NULL ? b->bytes : t != NULL ? t->bytes : 0;
    pthread_mutex_unlock(&l->lock);
    return state;
}

bool large_rests_at(large_space *l, uintptr_t address)
{
    if (address % SLABMALLOC_MIN_PAGE_BYTES != 0)
        return false;
    pthread_mutex_lock(&l->lock);
    const large_block *b = l->newest;
    while (b != NULL && b->address != address)
        b = b->older;
    pthread_mutex_unlock(&l->lock);
    return b != NULL;
}

/* [lock] */
static size_t resident_bytes_of(const large_block *b)
{
    return os_resident_bytes((void *)b->address, b->bytes); /* NOLINT(performance-no-int-to-ptr) */
}

/* Between buckets others have the lock: what changes its bucket meanwhile may be counted twice, or not. */
size_t large_resident_bytes(large_space *l)
{
    size_t resident = 0;
    pthread_mutex_lock(&l->lock);
    for (const large_block *b = l->newest; b != NULL; b = b->older)
        resident += resident_bytes_of(b);
    for (size_t i = 0; i < l->bucket_count; i++) {
        for (const large_block *b = l->buckets[i]; b != NULL; b = b->next)
            resident += resident_bytes_of(b);
        pthread_mutex_unlock(&l->lock);
        pthread_mutex_lock(&l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return resident;
}

/* Are its neighbours where they should be? [lock] */
static bool is_linked(const large_block *b)
{
    const large_block *before = b->before, *behind = b->behind;
    return (behind == NULL || (behind->before == b && behind->address == b->address + b->bytes)) &&
           (before == NULL || before->behind == b);
}

bool large_is_valid(large_space *l)
{
    pthread_mutex_lock(&l->lock);
    size_t count = 0, live_bytes = 0, resting_bytes = 0;
    bool are_as_said = true;
    for (size_t i = 0; i < l->bucket_count; i++)
        for (const large_block *b = l->buckets[i]; b != NULL; b = b->next) {
            count++;
            live_bytes += b->bytes;
            are_as_said = are_as_said && is_linked(b) && !b->rests;
        }
    for (const large_block *b = l->newest; b != NULL; b = b->older) {
        resting_bytes += b->bytes - b->purged_bytes;
        are_as_said = are_as_said && is_linked(b) && b->rests;
    }
    bool is_valid =
        count == l->live_count && live_bytes == l->live_bytes && resting_bytes == l->resting_bytes && are_as_said;
    pthread_mutex_unlock(&l->lock);
    return is_valid;
}
