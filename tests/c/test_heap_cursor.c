/* SPDX-License-Identifier: MIT
 *
 * Which slot of a heap's current slab an allocation gets: the cursor (zone/sc.h) before and after frees, where it lags
 * and where it keeps order, and from a random start on.
 */
#include "space_fixture.h"

/* Without an audit, which would let the cursor leave a word that is used up. */
static void free_silently(heap *h, char *object)
{
    slab *own = heap_own_slab(&h->view, (uintptr_t)object);
    CHECK(own != NULL && heap_free_quickly(own, (uintptr_t)object, slab_zone(own)->cursors_lag));
}

static void free_quickly(heap *h, char *object)
{
    free_silently(h, object);
    CHECK_POINTER(heap_audit(h), NULL);
}

static void quick_frees_leave_the_cursor(void)
{
    enum { BYTES = 48, CAPACITY = HEAP_PAGE_BYTES / BYTES, BEGUN = 2 * WORD_BITS + 2 };
    heap *h = heap_new(0);
    char *page = heap_allocate(h, BYTES);
    for (size_t slot = 1; slot < BEGUN; slot++)
        CHECK_POINTER(heap_allocate(h, BYTES), page + slot * BYTES);
    static const size_t behind[] = {5, 70, 100, BEGUN - 1};
    for (size_t i = 0; i < sizeof behind / sizeof *behind; i++)
        free_quickly(h, page + behind[i] * BYTES);
    /* Its word first, from which the next was chosen before the frees; then the lowest that have a slot. */
    CHECK_POINTER(heap_allocate(h, BYTES), page + (size_t)BEGUN * BYTES);
    CHECK_POINTER(heap_allocate(h, BYTES), page + (size_t)(BEGUN - 1) * BYTES);
    for (size_t slot = BEGUN + 1; slot < (size_t)3 * WORD_BITS; slot++)
        CHECK_POINTER(heap_allocate(h, BYTES), page + slot * BYTES);
    for (size_t i = 0; i < 3; i++)
        CHECK_POINTER(heap_allocate(h, BYTES), page + behind[i] * BYTES);
    for (size_t slot = (size_t)3 * WORD_BITS; slot < CAPACITY; slot++)
        CHECK_POINTER(heap_allocate(h, BYTES), page + slot * BYTES);
    /* The slab is full, and current still: what is freed there comes before another slab. */
    slab *own = heap_own_slab(&h->view, (uintptr_t)page);
    free_quickly(h, page + (size_t)900 * BYTES);
    free_quickly(h, page + (size_t)7 * BYTES);
    CHECK_POINTER(heap_allocate(h, BYTES), page + (size_t)7 * BYTES);
    CHECK_POINTER(heap_allocate(h, BYTES), page + (size_t)900 * BYTES);
    own->room = 1; /* after very many frees */
    free_quickly(h, page);
    CHECK_POINTER(sc_current(own->sc), own);
    CHECK_POINTER(heap_allocate(h, BYTES), page);
    CHECK((size_t)((char *)heap_allocate(h, BYTES) - page) >= HEAP_PAGE_BYTES);
    CHECK_HEAP(h, CAPACITY + 1);
    heap_destroy(h);
}

static void order_is_kept_where_it_is_asked_for(void)
{
    enum { BYTES = 48, BEGUN = 2 * WORD_BITS + 2 };
    heap *h = heap_new(0);
    char *page = heap_allocate(h, BYTES);
    for (size_t slot = 1; slot < BEGUN; slot++)
        CHECK_POINTER(heap_allocate(h, BYTES), page + slot * BYTES);
    free_quickly(h, page + 70 * BYTES);
    heap_keep_order(h); /* also of what was freed before */
    CHECK_POINTER(heap_audit(h), NULL);
    CHECK_POINTER(heap_allocate(h, BYTES), page + 70 * BYTES);
    for (size_t slot = 5; slot < BEGUN; slot += 60)
        free_quickly(h, page + slot * BYTES);
    for (size_t slot = 5; slot < BEGUN; slot += 60)
        CHECK_POINTER(heap_allocate(h, BYTES), page + slot * BYTES);
    for (size_t slot = BEGUN; slot < HEAP_PAGE_BYTES / BYTES; slot++) {
        char *brief = heap_allocate(h, BYTES);
        free_quickly(h, brief);
        CHECK_POINTER(heap_allocate(h, BYTES), page + slot * BYTES);
        CHECK_POINTER(brief, page + slot * BYTES);
    }
    free_quickly(h, page);
    CHECK_POINTER(heap_allocate(h, BYTES), page);
    heap_destroy(h);
}

/* Where cursors lag the lowest follows, since above the word nothing was used yet. */
static void a_word_that_is_used_up_goes_on(void)
{
    enum { BYTES = 48, BEGUN = 2 * WORD_BITS };
    for (int lags = 0; lags < 2; lags++) {
        heap *h = heap_new(0);
        if (!lags)
            heap_keep_order(h);
        char *page = heap_allocate(h, BYTES);
        for (size_t slot = 1; slot < BEGUN; slot++)
            CHECK_POINTER(heap_allocate(h, BYTES), page + slot * BYTES);
        static const size_t freed[] = {5, 100, 90}, next[][4] = {{90, 100, 5, BEGUN}, {5, 90, 100, BEGUN}};
        for (size_t i = 0; i < 3; i++)
            free_silently(h, page + freed[i] * BYTES);
        for (size_t i = 0; i < 4; i++)
            CHECK_POINTER(heap_allocate(h, BYTES), page + next[lags][i] * BYTES);
        CHECK_HEAP(h, BEGUN + 1);
        heap_destroy(h);
    }
}

/* A slot below in another word, which had got one before without the cursor: the lowest of that word comes. */
static void a_free_below_moves_the_cursor_to_the_lowest_of_its_word(void)
{
    enum { BYTES = 16, BEGUN = 3 * WORD_BITS };
    heap *h = heap_new(0);
    heap_keep_order(h);
    char *page = heap_allocate(h, BYTES);
    for (size_t slot = 1; slot < BEGUN; slot++)
        CHECK_POINTER(heap_allocate(h, BYTES), page + slot * BYTES);
    static const size_t freed[] = {69, 138, 84}, next[] = {69, 84, 138, BEGUN};
    for (size_t i = 0; i < 3; i++)
        free_silently(h, page + freed[i] * BYTES);
    for (size_t i = 0; i < 4; i++) {
        CHECK_POINTER(heap_audit(h), NULL);
        CHECK_POINTER(heap_allocate(h, BYTES), page + next[i] * BYTES);
    }
    CHECK_HEAP(h, BEGUN + 1);
    heap_destroy(h);
}

/* From its first word's last slots, one after another, to the end, and then what is before. */
static void a_further_slab_is_filled_from_its_random_start_on(void)
{
    enum { BYTES = 64, CAPACITY = HEAP_PAGE_BYTES / BYTES, REACH = 8 };
    for (int keeps_order = 0; keeps_order < 2; keeps_order++) {
        heap *h = heap_new(0);
        if (keeps_order)
            heap_keep_order(h);
        for (size_t i = 0; i < CAPACITY; i++)
            heap_allocate(h, BYTES);
        char *first = heap_allocate(h, BYTES), *page = (char *)((uintptr_t)first & ~(uintptr_t)(HEAP_PAGE_BYTES - 1));
        size_t start = (size_t)(first - page) / BYTES;
        CHECK(start >= WORD_BITS - REACH && start < WORD_BITS);
        for (size_t i = 1; i < CAPACITY; i++)
            CHECK_POINTER(heap_allocate(h, BYTES), page + (start + i) % CAPACITY * BYTES);
        CHECK_HEAP(h, (size_t)2 * CAPACITY);
        heap_destroy(h);
    }
}

int main(void)
{
    RUN(quick_frees_leave_the_cursor);
    RUN(order_is_kept_where_it_is_asked_for);
    RUN(a_word_that_is_used_up_goes_on);
    RUN(a_free_below_moves_the_cursor_to_the_lowest_of_its_word);
    RUN(a_further_slab_is_filled_from_its_random_start_on);
    return check_finish();
}
