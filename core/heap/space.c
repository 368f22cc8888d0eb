/* SPDX-License-Identifier: MIT
 *
 * What the heaps of a process share: see space.h for what is guarded by what.
 */
#define _GNU_SOURCE
#include "heap/space.h"

#include <time.h>

#include "base/check.h"
#include "heap/addresses.h"
#include "heap/hardened.h"
#include "heap/heap.h"
#include "slab/pager.h"

#define RESERVE_BYTES ((size_t)64 << 30)
#define RESERVE_LEAST_BYTES ((size_t)4 << 20)
#define REST_BOUND_BYTES ((size_t)64 << 20)

/* What a child takes rather than copy what it shares: no more than it can do without if its parent ends, and all is its
 * own. */
#define FORK_FRESH_BYTES ((size_t)32 << 20)

/* What the bookkeeping of a request takes from the system at once: a chunk of a store. */
#define BOOKS_BYTES ((size_t)1 << 20)

/* So much is left to others where it is free and addresses are limited: threads that start, loaders and mmap can't ask
 * us for it. It is two stacks of the usual length. */
#define OTHERS_BYTES ((size_t)16 << 20)

/* So many spans that are lent are asked for before a further range is. */
enum { TAKE_BACK_TRIES = 64 };

/* A step of the arenas' decay, a fraction of a millisecond. */
enum { DECAY_MS = 1000, DECAY_STEP_UNITS = 16 };

/* ---- ranges ---------------------------------------------------------------------------------------------- */

static bool tables_init(range *r)
{
    size_t units = r->arena.reserved_bytes / ARENA_UNIT_BYTES;
    r->tables_bytes = align_up(units * (sizeof(slab *) + 2 * sizeof(uint16_t)), SLABMALLOC_MIN_PAGE_BYTES);
    r->slabs = os_map_guarded(r->tables_bytes, SLABMALLOC_MIN_PAGE_BYTES);
    if (r->slabs == NULL)
        return false;
    huge_refuse((void *)r->slabs, r->tables_bytes); /* little of it is ever touched */
    r->purged = (uint16_t *)(r->slabs + units);
    r->seen = r->purged + units;
    return true;
}

/* So many bytes, or half of that, and so on, as the system grants addresses and tables; false: not even the least. */
static bool range_init(range *r, size_t reserve_bytes, const space *s)
{
    for (size_t last_bytes = SIZE_MAX; arena_init(&r->arena, reserve_bytes, RESERVE_LEAST_BYTES, &s->huge);) {
        size_t bytes = r->arena.reserved_bytes;
        if (tables_init(r))
            return true;
        arena_end(&r->arena);
        if (bytes == last_bytes)
            break;
        last_bytes = bytes;
        reserve_bytes = bytes / 2; /* of the least, and of one huge page, that is the same again */
    }
    return false;
}

static void range_end(range *r)
{
    os_unmap_guarded((void *)r->slabs, r->tables_bytes);
    arena_end(&r->arena);
}

/* Where addresses were lent the system may place a range among those of another: which is whose could not be told. */
static bool range_is_apart(const space *s, const arena *a, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const arena *other = &s->ranges[i].arena;
        if (a->base - other->base < other->reserved_bytes || other->base - a->base < a->reserved_bytes)
            return false;
    }
    return true;
}

/* One more range, as large as all others together if the system grants it (the least, just after it refused that), once
 * they are used up: so a small first one is no limit. Where addresses are left, and the system refuses memory for them,
 * it would refuse it for others too. False: there is none. */
static bool range_add(space *s)
{
    uint32_t count = atomic_load_explicit(&s->range_count, memory_order_relaxed);
    const arena *last = &s->ranges[count - 1].arena;
    size_t reserved_bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        reserved_bytes += s->ranges[i].arena.reserved_bytes;
    if (count >= s->options.max_ranges || arena_fresh(last) < last->chunk_count)
        return false;
    uint64_t now_ms = space_now_ms(); /* who has just refused even the least is not asked for more at once */
    if (!range_init(&s->ranges[count], now_ms == s->refused_ms ? RESERVE_LEAST_BYTES : reserved_bytes, s)) {
        s->refused_ms = now_ms;
        return false;
    }
    if (!range_is_apart(s, &s->ranges[count].arena, count)) {
        range_end(&s->ranges[count]);
        return false;
    }
    atomic_store_explicit(&s->range_count, count + 1, memory_order_release);
    return true;
}

/* ---- life ------------------------------------------------------------------------------------------------ */

space_options space_options_default(void)
{
    return (space_options){
        .max_ranges = SPACE_MAX_RANGES,
        .decay_ms = DECAY_MS,
        .rest_bound_bytes = REST_BOUND_BYTES,
        .machine = huge_machine_now(),
        .classes = heap_classes_default(),
    };
}

space *space_create(const space_options *options)
{
    size_t bytes = align_up(sizeof(space), os_page_bytes());
    space *s = os_map_guarded(bytes, SLABMALLOC_MIN_PAGE_BYTES);
    if (s == NULL)
        return NULL;
    ASSERT(heap_classes_are_valid(&options->classes));
    s->options = *options;
    zone_fill_class_table(&s->options.classes, s->class_table);
    s->huge_refusal = huge_use_of(&s->huge, &options->machine, options->huge_pages && !options->is_hardened);
    if (options->is_hardened) {
        if (options->huge_pages)
            s->huge_refusal = "guards cut them to pieces";
        hardened_init(s);
    }
    size_t reserve = options->reserve_bytes == 0 ? RESERVE_BYTES : options->reserve_bytes;
    if (!range_init(&s->ranges[0], reserve, s)) {
        os_unmap_guarded(s, bytes);
        return NULL;
    }
    if (!large_init(&s->large, &s->huge, options->is_hardened)) {
        range_end(&s->ranges[0]);
        os_unmap_guarded(s, bytes);
        return NULL;
    }
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->nothing_lock, NULL);
    atomic_init(&s->range_count, 1);
    return s;
}

void space_destroy(space *s)
{
    for (heap *h = s->heaps, *next; h != NULL; h = next) {
        next = h->next;
        heap_end(h);
    }
    large_end(&s->large);
    for (uint32_t i = 0; i < atomic_load_explicit(&s->range_count, memory_order_relaxed); i++)
        range_end(&s->ranges[i]);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->nothing_lock);
    os_unmap_guarded(s, align_up(sizeof(space), os_page_bytes()));
}

/* ---- pages ----------------------------------------------------------------------------------------------- */

/* Adds what memory the system has to give for it. [lock] */
static void *take_from_ranges(space *s, size_t page_bytes, size_t *fresh_bytes)
{
    void *page = NULL;
    uint32_t count = atomic_load_explicit(&s->range_count, memory_order_relaxed);
    for (uint32_t i = 0; page == NULL && i < count; i++) {
        arena *a = &s->ranges[i].arena;
        size_t before = a->in_use_count + a->resting_count;
        page = arena_take(a, page_bytes);
        *fresh_bytes += (a->in_use_count + a->resting_count - before) * ARENA_UNIT_BYTES;
    }
    return page;
}

/* One of the spans that are lent, of which so many may be asked for. [lock] */
static bool take_back(space *s, size_t tries)
{
    bool is_back = false;
    uint32_t count = atomic_load_explicit(&s->range_count, memory_order_relaxed);
    for (uint32_t i = 0; !is_back && i < count; i++)
        is_back = arena_take_back(&s->ranges[i].arena, &tries);
    return is_back;
}

void *space_take_page(space *s, size_t page_bytes)
{
    pthread_mutex_lock(&s->lock);
    size_t fresh_bytes = 0;
    void *page = take_from_ranges(s, page_bytes, &fresh_bytes);
    if (page == NULL && (take_back(s, TAKE_BACK_TRIES) || range_add(s)))
        page = take_from_ranges(s, page_bytes, &fresh_bytes);
    if (page == NULL && large_trim(&s->large) > 0) { /* memory and addresses that rest */
        s->refused_ms = 0;
        range_add(s);
        page = take_from_ranges(s, page_bytes, &fresh_bytes);
    }
    if (page == NULL && take_back(s, SIZE_MAX))
        page = take_from_ranges(s, page_bytes, &fresh_bytes);
    if (page != NULL)
        atomic_fetch_add_explicit(&s->in_use_bytes, page_bytes, memory_order_relaxed);
    pthread_mutex_unlock(&s->lock);
    if (fresh_bytes > 0)
        large_shed(&s->large, fresh_bytes);
    return page;
}

void space_give_page(space *s, void *page, size_t page_bytes)
{
    range *r = space_range_of(s, (uintptr_t)page);
    pthread_mutex_lock(&s->lock);
    arena_give(&r->arena, page, page_bytes);
    /* When a chunk too many rests, as much goes, or twice the page: so no burst of frees is followed by a long pause,
     * and the system is not called for each page. */
    size_t in_use = 0, spare = 0;
    for (uint32_t i = 0; i < atomic_load_explicit(&s->range_count, memory_order_relaxed); i++) {
        in_use += s->ranges[i].arena.in_use_count;
        spare += s->ranges[i].arena.spare_count;
    }
    size_t bound = max_size(s->options.rest_bound_bytes / ARENA_UNIT_BYTES, in_use / 8);
    if (spare >= bound + ARENA_CHUNK_UNITS)
        arena_purge(&r->arena, min_size(spare - bound, max_size(ARENA_CHUNK_UNITS, 2 * page_bytes / ARENA_UNIT_BYTES)));
    atomic_fetch_sub_explicit(&s->in_use_bytes, page_bytes, memory_order_relaxed);
    if (s->options.decay_ms == 0)
        arena_purge(&r->arena, SIZE_MAX);
    pthread_mutex_unlock(&s->lock);
}

bool space_holds(space *s, uintptr_t address)
{
    const range *r = space_range_of(s, address);
    if (r == NULL)
        return false;
    pthread_mutex_lock(&s->lock);
    bool holds = arena_holds(&r->arena, address);
    pthread_mutex_unlock(&s->lock);
    return holds;
}

/* [lock] */
static size_t sum_of(size_t (*bytes_of)(const arena *, bool), const space *s, bool is_writable)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < atomic_load_explicit(&s->range_count, memory_order_relaxed); i++)
        bytes += bytes_of(&s->ranges[i].arena, is_writable);
    return bytes;
}

/* [lock] */
static size_t lend_from_ranges(space *s, size_t bytes, bool is_writable)
{
    size_t lent = 0;
    for (uint32_t i = atomic_load_explicit(&s->range_count, memory_order_relaxed); lent < bytes && i-- > 0;)
        lent += arena_lend(&s->ranges[i].arena, bytes - lent, is_writable);
    return lent;
}

/* As far as there is so much. Returns how many bytes. [lock] */
static size_t lend(space *s, addresses_excess excess)
{
    size_t lent = lend_from_ranges(s, excess.writable_bytes, true);
    return lent + lend_from_ranges(s, excess.all_bytes - min_size(lent, excess.all_bytes), false);
}

/* Is there what the process would pass its limits by, but for `bytes`? Else nobody gains, and nothing comes back.
 * [lock] */
static bool can_lend(const space *s, addresses_excess excess, size_t bytes)
{
    return excess.all_bytes <= sum_of(arena_lendable_bytes, s, false) + bytes &&
           excess.writable_bytes <= sum_of(arena_lendable_bytes, s, true) + bytes;
}

/* To others, who find no addresses any more: some of them, or after a trim all that there are. [lock] */
static void leave_some(space *s)
{
    addresses_excess excess;
    if (!addresses_excess_with(OTHERS_BYTES, &excess) || !can_lend(s, excess, OTHERS_BYTES))
        return;
    uint32_t i = atomic_load_explicit(&s->range_count, memory_order_relaxed);
    for (size_t lent = 0; lent < excess.all_bytes && i-- > 0;)
        lent += arena_lend_some(&s->ranges[i].arena, excess.all_bytes - lent);
}

static void leave_all(space *s)
{
    addresses_excess excess;
    size_t bytes = SIZE_MAX / 4; /* in excess of any limit that there is */
    if (addresses_excess_with(bytes, &excess) && can_lend(s, excess, bytes))
        lend(s, excess);
}

/* Would so many bytes, and their bookkeeping, be more than the limits of the process? By how much? */
static bool is_excessive(size_t bytes, addresses_excess *excess)
{
    if (bytes > SIZE_MAX / 4)
        return false;
    addresses_excess_with(bytes + BOOKS_BYTES, excess);
    return excess->all_bytes > 0 || excess->writable_bytes > 0;
}

bool space_make_room(space *s, size_t bytes)
{
    addresses_excess excess;
    if (!is_excessive(bytes, &excess))
        return false;
    size_t lent = 0;
    pthread_mutex_lock(&s->lock);
    if (can_lend(s, excess, 0))
        lent = lend(s, excess);
    pthread_mutex_unlock(&s->lock);
    return lent > 0;
}

bool space_could_make_room(space *s, size_t bytes)
{
    addresses_excess excess;
    if (!is_excessive(bytes, &excess))
        return false;
    pthread_mutex_lock(&s->lock);
    bool could = excess.all_bytes <= sum_of(arena_most_bytes, s, false) &&
                 excess.writable_bytes <= sum_of(arena_most_bytes, s, true);
    pthread_mutex_unlock(&s->lock);
    return could;
}

void *space_allocate_large(space *s, size_t bytes, size_t align, bool *is_zero)
{
    void *object;
    do
        object = large_allocate(&s->large, bytes, align, is_zero);
    while (UNLIKELY(object == NULL) && space_make_room(s, bytes > SIZE_MAX - align ? SIZE_MAX : bytes + align));
    return object;
}

void *space_resize_large(space *s, void *object, size_t bytes)
{
    void *resized;
    size_t missing_bytes;
    do
        resized = large_resize(&s->large, object, bytes, &missing_bytes);
    while (UNLIKELY(missing_bytes > 0) && space_make_room(s, missing_bytes));
    return resized;
}

/* ---- give back ------------------------------------------------------------------------------------------- */

uint64_t space_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t space_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Units that nobody needed during a whole window of half the decay have rested for at most one and a half of it when
 * they go. [lock] */
static bool decay_arenas(space *s, uint64_t now_ms)
{
    uint32_t count = atomic_load_explicit(&s->range_count, memory_order_relaxed);
    if (now_ms >= s->next_decay_ms) {
        s->next_decay_ms = now_ms + max_size(s->options.decay_ms / 2, 1);
        s->to_purge = 0;
        for (uint32_t i = 0; i < count; i++)
            s->to_purge += arena_note_low(&s->ranges[i].arena);
        leave_some(s);
    }
    size_t step = min_size(s->to_purge, DECAY_STEP_UNITS);
    for (uint32_t i = count; i-- > 0 && step > 0;) {
        size_t purged = arena_purge(&s->ranges[i].arena, step) / ARENA_UNIT_BYTES;
        step -= min_size(step, purged);
        s->to_purge -= min_size(s->to_purge, purged);
    }
    if (step > 0)
        s->to_purge = 0;
    return s->to_purge > 0;
}

bool space_decay(space *s, uint64_t now_ms)
{
    if (pthread_mutex_trylock(&s->lock) != 0)
        return false; /* whoever holds it will come by here too */
    bool is_more = decay_arenas(s, now_ms), is_any_abandoned = s->abandoned != NULL;
    pthread_mutex_unlock(&s->lock);
    is_more |= is_any_abandoned && heap_tend_abandoned(s, now_ms);
    return (now_ms >= s->options.decay_ms && large_decay(&s->large, now_ms - s->options.decay_ms)) || is_more;
}

size_t space_trim(space *s)
{
    size_t bytes = 0;
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < atomic_load_explicit(&s->range_count, memory_order_relaxed); i++)
        bytes += arena_purge(&s->ranges[i].arena, SIZE_MAX);
    s->to_purge = 0;
    leave_all(s);
    pthread_mutex_unlock(&s->lock);
    return bytes + large_trim(&s->large);
}

/* ---- fork ------------------------------------------------------------------------------------------------ */

void space_fork_prepare(space *s)
{
    pthread_mutex_lock(&s->nothing_lock);
    pthread_mutex_lock(&s->lock);
    pthread_mutex_lock(&s->large.lock);
}

void space_fork_parent(space *s)
{
    pthread_mutex_unlock(&s->large.lock);
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&s->nothing_lock);
}

static bool is_lost(const slab *s) { return ((const heap *)slab_zone(s)->watcher.context)->state == HEAP_LOST; }

/* Whoever freed in heaps that are not lost may be gone before he told it: see remote.h. */
static void tell_news_again(space *s)
{
    for (const heap *h = s->heaps; h != NULL; h = h->next)
        for (uint32_t i = 0; i < zone_sc_count(h->view.zone); i++)
            remote_forget_news(&h->view.zone->sc[i]);
    for (uint32_t i = 0; i < atomic_load_explicit(&s->range_count, memory_order_relaxed); i++) {
        const range *r = &s->ranges[i];
        slab *before = NULL;
        for (size_t unit = 0; unit < arena_fresh(&r->arena) * (size_t)ARENA_CHUNK_UNITS; unit++) {
            slab *found = atomic_load_explicit(&r->slabs[unit], memory_order_relaxed);
            if (found != NULL && found != before && !is_lost(found))
                remote_tell_again(found);
            before = found;
        }
    }
}

void space_fork_child(space *s, heap *const *kept, size_t count)
{
    for (heap *h = s->heaps; h != NULL; h = h->next) {
        bool is_callers = false;
        for (size_t i = 0; i < count; i++)
            is_callers = is_callers || h == kept[i];
        if (is_callers) /* others are kept as well, but what each may take would add up */
            zone_note_fork(h->view.zone, FORK_FRESH_BYTES);
        else if (h->state != HEAP_ABANDONED && !h->is_nothing)
            h->state = HEAP_LOST;
    }
    tell_news_again(s);
    space_fork_parent(s); /* the child's only thread is the one that locked them */
}
