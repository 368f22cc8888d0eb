/* SPDX-License-Identifier: MIT
 *
 * Heaps change owners, and end, floor 3: what is under which lock, and why nobody meets another in a heap, is argued in
 * heap.h, with the numbers used here.
 */
#include "heap/heap.h"

#include "heap/hardened.h"

enum { ORPHANS_AT_ONCE = 8 };

/* A heap whose owner is gone without having abandoned it; a few of them are asked for, in turn. [lock] */
static heap *find_orphan(space *s, bool (*is_gone)(uint64_t owner))
{
    heap *h = s->asked != NULL ? s->asked : s->heaps;
    for (int i = 0; is_gone != NULL && h != NULL && i < ORPHANS_AT_ONCE; i++, h = h->next) {
        s->asked = h->next;
        if (h->state == HEAP_OWNED && h->owner != 0 && is_gone(h->owner))
            return h;
    }
    return NULL;
}

/* Takes the heap at `*at`, `before` being the one in front of it, off the list. [lock] */
static heap *take_off(space *s, heap **at, heap *before)
{
    heap *h = *at;
    *at = h->next_abandoned;
    if (s->last_abandoned == h)
        s->last_abandoned = before;
    h->state = HEAP_OWNED;
    return h;
}

heap *heap_open(space *s, bool (*is_gone)(uint64_t owner))
{
    pthread_mutex_lock(&s->lock);
    heap *h = s->abandoned != NULL ? take_off(s, &s->abandoned, NULL) : find_orphan(s, is_gone);
    if (h != NULL) {
        h->owner = 0;
        h->was_tended = h->was_vacant = false;
    }
    pthread_mutex_unlock(&s->lock);
    return h != NULL ? h : heap_make(s, false);
}

void heap_abandon(heap *h)
{
    space *s = h->space;
    pthread_mutex_lock(&s->lock);
    *(s->abandoned == NULL ? &s->abandoned : &s->last_abandoned->next_abandoned) = h;
    s->last_abandoned = h;
    h->next_abandoned = NULL;
    h->state = HEAP_ABANDONED;
    h->owner = 0; /* whoever borrows it to tend it is not the one who is gone */
    pthread_mutex_unlock(&s->lock);
}

static bool is_due(const heap *h, uint64_t now_ms)
{
    return h->next_tending_ms <= now_ms || atomic_load_explicit(&h->trim_wanted, memory_order_relaxed);
}

heap *heap_borrow(space *s, uint64_t now_ms, uint64_t trim)
{
    pthread_mutex_lock(&s->lock);
    heap **at = &s->abandoned, *before = NULL;
    while (*at != NULL && (trim != 0 ? (*at)->last_trim >= trim : !is_due(*at, now_ms))) {
        before = *at;
        at = &before->next_abandoned;
    }
    heap *h = *at != NULL ? take_off(s, at, before) : NULL;
    pthread_mutex_unlock(&s->lock);
    return h;
}

/* ---- the end --------------------------------------------------------------------------------------------- */

/* Has it no page, and keeps nothing back that is another heap's? */
static bool is_vacant(const heap *h)
{
    return h->view.zone->registry.count == 0 && (h->hardened == NULL || !hardened_holds_any(h));
}

/* E1, but for the lock. */
static void leave_space(heap *h)
{
    space *s = h->space;
    *(h->previous == NULL ? &s->heaps : &h->previous->next) = h->next;
    if (h->next != NULL)
        h->next->previous = h->previous;
    if (s->asked == h)
        s->asked = h->next;
    for (int i = 0; i < HEAP_TALLIES; i++)
        tally_add(&s->past.tallies[i], &h->tallies[i]);
    s->past.swept_bytes += atomic_load_explicit(&h->swept_bytes, memory_order_relaxed);
    heap_add_counts(h, s->past.classes);
}

void heap_return(heap *h, bool at_once)
{
    space *s = h->space;
    bool was_vacant = h->was_vacant || at_once;
    h->was_vacant = is_vacant(h);
    if (!h->was_vacant || !was_vacant) {
        heap_abandon(h);
        return;
    }
    pthread_mutex_lock(&s->lock);
    leave_space(h);
    pthread_mutex_unlock(&s->lock);
    heap_end(h); /* E2 */
}
