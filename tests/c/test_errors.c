/* SPDX-License-Identifier: MIT
 *
 * Every status, from every function that can return it, by the owner and by others. After an error nothing has changed.
 */
#include "fixture.h"

#include <pthread.h>

enum { BASE = 64, LARGE = 1024 };

typedef struct scene {
    slabmalloc_zone *zone;
    char *base, *large; /* one page each, half full */
    char *outside;      /* a page of nobody */
    bool by_other;      /* frees come from another thread */
    slabmalloc_class_stats before;
} scene;

static scene scene_new(bool by_other)
{
    scene s = {.zone = zone_default(),
               .base = object_page(),
               .large = large_page(),
               .outside = object_page(),
               .by_other = by_other};
    CHECK_OK(slabmalloc_zone_refill(s.zone, BASE, 8, s.base, 4096));
    CHECK_OK(slabmalloc_zone_refill(s.zone, LARGE, 8, s.large, SLABMALLOC_LARGE_PAGE_BYTES));
    for (int i = 0; i < 10; i++) {
        CHECK_POINTER(slabmalloc_zone_allocate(s.zone, BASE, 8), s.base + BASE * i);
        CHECK_POINTER(slabmalloc_zone_allocate(s.zone, LARGE, 8), s.large + LARGE * i);
    }
    s.before = slabmalloc_zone_stats(s.zone, -1);
    return s;
}

/* Nothing has changed: statistics, and what is allocated next. */
static void scene_end(scene *s)
{
    CHECK_CONSERVED(s->zone);
    slabmalloc_class_stats after = slabmalloc_zone_stats(s->zone, -1);
    CHECK_EQUAL(memcmp(&after, &s->before, sizeof after), 0);
    CHECK_POINTER(slabmalloc_zone_allocate(s->zone, BASE, 8), s->base + BASE * 10);
    CHECK_POINTER(slabmalloc_zone_allocate(s->zone, LARGE, 8), s->large + LARGE * 10);
    slabmalloc_zone_destroy(s->zone);
    memory_free(s->base, 4096);
    memory_free(s->large, SLABMALLOC_LARGE_PAGE_BYTES);
    memory_free(s->outside, 4096);
}

typedef struct free_call {
    slabmalloc_zone *zone;
    void *object;
    size_t size, align;
    slabmalloc_status status;
} free_call;

static void *free_elsewhere(void *context)
{
    free_call *call = context;
    call->status = slabmalloc_zone_deallocate(call->zone, call->object, call->size, call->align);
    return NULL;
}

static slabmalloc_status free_in(const scene *s, void *object, size_t size, size_t align)
{
    if (!s->by_other)
        return slabmalloc_zone_deallocate(s->zone, object, size, align);
    free_call call = {s->zone, object, size, align, SLABMALLOC_OK};
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, free_elsewhere, &call) == 0);
    pthread_join(thread, NULL);
    return call.status;
}

static void invalid_layout(scene *s)
{
    CHECK_STATUS(free_in(s, s->base, 0, 8), INVALID_LAYOUT);
    CHECK_STATUS(free_in(s, s->base, BASE, 0), INVALID_LAYOUT);
    CHECK_STATUS(free_in(s, s->base, BASE, 24), INVALID_LAYOUT);
    CHECK_STATUS(free_in(s, s->base, SIZE_MAX, 8), INVALID_LAYOUT);
    CHECK_STATUS(free_in(s, s->base, 131073, 8), INVALID_LAYOUT);
    CHECK_STATUS(free_in(s, s->base, 8, 1u << 22), INVALID_LAYOUT);
    CHECK_STATUS(free_in(s, NULL, 0, 8), INVALID_LAYOUT); /* looked at before the address */
}

static void foreign(scene *s)
{
    int on_stack;
    char *foreign[] = {s->outside,
                       s->outside + 64,
                       NULL,
                       s->base - 1,
                       s->base + 4096,
                       s->large + SLABMALLOC_LARGE_PAGE_BYTES,
                       (char *)1,
                       (char *)64,
                       (char *)4096,
                       (char *)UINTPTR_MAX,
                       (char *)(UINTPTR_MAX - 63),
                       (char *)&on_stack,
                       (char *)s->zone};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        bool is_beside = foreign[i] == s->base - 1 || foreign[i] == s->base + 4096 ||
                         foreign[i] == s->large + SLABMALLOC_LARGE_PAGE_BYTES;
        if (is_beside && slabmalloc_zone_inspect(s->zone, foreign[i]).page != NULL)
            continue; /* the system put our pages side by side */
        CHECK_STATUS(free_in(s, foreign[i], BASE, 8), FREE_FOREIGN);
        CHECK_STATUS(free_in(s, foreign[i], LARGE, 8), FREE_FOREIGN);
    }
}

static void wrong_class(scene *s)
{
    CHECK_STATUS(free_in(s, s->base, BASE + 1, 8), FREE_WRONG_CLASS);
    CHECK_STATUS(free_in(s, s->base, 8, 8), FREE_WRONG_CLASS);
    CHECK_STATUS(free_in(s, s->base, LARGE, 8), FREE_WRONG_CLASS); /* the other kind of page */
    CHECK_STATUS(free_in(s, s->large, BASE, 8), FREE_WRONG_CLASS);
    CHECK_STATUS(free_in(s, s->large + LARGE, LARGE * 2, 8), FREE_WRONG_CLASS);
    CHECK_STATUS(free_in(s, s->large + 4096, BASE, 8), FREE_WRONG_CLASS); /* at no page boundary of its own */
    CHECK_STATUS(free_in(s, s->large + SLABMALLOC_LARGE_PAGE_BYTES - 8, 8, 8), FREE_WRONG_CLASS);
    CHECK_STATUS(free_in(s, s->base + 1, 8, 8), FREE_WRONG_CLASS); /* looked at before the boundary */
}

static void interior(scene *s)
{
    for (size_t offset = 1; offset < BASE; offset++)
        CHECK_STATUS(free_in(s, s->base + BASE + offset, BASE, 8), FREE_INTERIOR);
    page_layout layout = page_layout_of(BASE, 4096);
    CHECK_STATUS(free_in(s, s->base + layout.capacity * BASE, BASE, 8),
                 FREE_INTERIOR); /* where the next slot would be */
    CHECK_STATUS(free_in(s, s->base + layout.local, BASE, 8), FREE_INTERIOR);
    CHECK_STATUS(free_in(s, s->base + layout.remote, BASE, 8), FREE_INTERIOR);
    CHECK_STATUS(free_in(s, s->base + layout.trailer, BASE, 8), FREE_INTERIOR);
    CHECK_STATUS(free_in(s, s->base + 4095, BASE, 8), FREE_INTERIOR);
    CHECK_STATUS(free_in(s, s->large + LARGE / 2, LARGE, 8), FREE_INTERIOR);
    CHECK_STATUS(free_in(s, s->large + SLABMALLOC_LARGE_PAGE_BYTES - LARGE, LARGE, 8), FREE_INTERIOR);
    CHECK_STATUS(free_in(s, s->large + SLABMALLOC_LARGE_PAGE_BYTES - 1, LARGE, 8), FREE_INTERIOR);
}

static void never_allocated(scene *s)
{
    CHECK_STATUS(free_in(s, s->base + BASE * 10, BASE, 8), FREE_DOUBLE);
    CHECK_STATUS(free_in(s, s->base + BASE * (page_layout_of(BASE, 4096).capacity - 1), BASE, 8), FREE_DOUBLE);
    CHECK_STATUS(free_in(s, s->large + LARGE * 10, LARGE, 8), FREE_DOUBLE);
    CHECK_STATUS(free_in(s, s->large + LARGE * 1500, LARGE, 8), FREE_DOUBLE);
}

static void check_scenes(void (*act)(scene *s))
{
    for (int by_other = 0; by_other < 2; by_other++) {
        scene s = scene_new(by_other != 0);
        act(&s);
        scene_end(&s);
    }
}

static void frees_with_an_invalid_layout(void) { check_scenes(invalid_layout); }
static void frees_on_no_page(void) { check_scenes(foreign); }
static void frees_of_the_wrong_class(void) { check_scenes(wrong_class); }
static void frees_between_slots(void) { check_scenes(interior); }
static void frees_of_what_was_never_allocated(void) { check_scenes(never_allocated); }

/* An object freed by X and freed again by Y, for the owner and another thread in all four combinations. */
static void double_frees(void)
{
    for (int order = 0; order < 4; order++) {
        scene s = scene_new((order & 1) != 0);
        CHECK_OK(free_in(&s, s.base + BASE * 3, BASE, 8));
        CHECK_OK(free_in(&s, s.large + LARGE * 4, LARGE, 8));
        s.by_other = (order & 2) != 0;
        for (int again = 0; again < 2; again++) {
            CHECK_STATUS(free_in(&s, s.base + BASE * 3, BASE, 8), FREE_DOUBLE);
            CHECK_STATUS(free_in(&s, s.large + LARGE * 4, LARGE, 8), FREE_DOUBLE);
        }
        CHECK_EQUAL(slabmalloc_zone_collect(s.zone), (order & 1) != 0 ? 2 : 0);
        CHECK_STATUS(free_in(&s, s.base + BASE * 3, BASE, 8), FREE_DOUBLE); /* and when it has been collected */
        CHECK_STATUS(free_in(&s, s.large + LARGE * 4, LARGE, 8), FREE_DOUBLE);
        CHECK_CONSERVED(s.zone);
        CHECK_POINTER(slabmalloc_zone_allocate(s.zone, BASE, 8), s.base + BASE * 3);
        CHECK_POINTER(slabmalloc_zone_allocate(s.zone, LARGE, 8), s.large + LARGE * 4);
        CHECK_EQUAL(slabmalloc_zone_stats(s.zone, -1).live_objects, 20);
        s.before = slabmalloc_zone_stats(s.zone, -1);
        scene_end(&s);
    }
}

/* Freed by X and again by Y in a slab that is full, and then partial, but never current. */
static void a_slab_that_is_not_current(void)
{
    for (int order = 0; order < 4; order++) {
        scene s = scene_new(false);
        size_t capacity = page_layout_of(BASE, 4096).capacity;
        char *second = object_page();
        CHECK_OK(slabmalloc_zone_refill(s.zone, BASE, 8, second, 4096));
        for (size_t i = 10; i < capacity + 5; i++)
            CHECK(slabmalloc_zone_allocate(s.zone, BASE, 8) != NULL);
        size_t remote = 0;
        for (int slot = 7; slot < 9; slot++) {
            s.by_other = (order & 1) != 0;
            CHECK_OK(free_in(&s, s.base + BASE * slot, BASE, 8));
            remote += s.by_other;
            s.by_other = (order & 2) != 0;
            CHECK_STATUS(free_in(&s, s.base + BASE * slot, BASE, 8), FREE_DOUBLE);
            void *twice[] = {s.base + BASE * slot};
            size_t bad = 9;
            CHECK_STATUS(slabmalloc_zone_deallocate_many(s.zone, twice, 1, BASE, 8, &bad), FREE_DOUBLE);
            CHECK_EQUAL(bad, 0);
        }
        CHECK_STATUS(free_in(&s, s.base + BASE * 7 + 8, BASE, 8), FREE_INTERIOR);
        CHECK_STATUS(free_in(&s, s.base + BASE * 7, BASE / 2, 8), FREE_WRONG_CLASS);
        CHECK_STATUS(free_in(&s, second + BASE * 6, BASE, 8), FREE_DOUBLE);
        CHECK_OK(free_in(&s, second + BASE * 4, BASE, 8));
        remote += s.by_other;
        CHECK_EQUAL(slabmalloc_zone_collect(s.zone), remote);
        CHECK_EQUAL(slabmalloc_zone_stats(s.zone, -1).live_objects, 10 + capacity + 5 - 3);
        CHECK_CONSERVED(s.zone);
        slabmalloc_zone_destroy(s.zone);
        memory_free(s.base, 4096);
        memory_free(s.large, SLABMALLOC_LARGE_PAGE_BYTES);
        memory_free(s.outside, 4096);
        memory_free(second, 4096);
    }
}

static void a_reclaimed_page_is_foreign(void)
{
    for (int by_other = 0; by_other < 2; by_other++) {
        scene s = scene_new(by_other != 0);
        for (int i = 0; i < 10; i++)
            CHECK_OK(slabmalloc_zone_deallocate(s.zone, s.base + BASE * i, BASE, 8));
        page_list back = {0};
        CHECK_EQUAL(slabmalloc_zone_reclaim(s.zone, -1, 4096, 1, page_list_add, &back), 1);
        CHECK_STATUS(free_in(&s, s.base, BASE, 8), FREE_FOREIGN);
        CHECK_STATUS(free_in(&s, s.base + 8, BASE, 8), FREE_FOREIGN);
        CHECK_OK(slabmalloc_zone_refill(s.zone, 8, 8, s.base, 4096));
        CHECK_STATUS(free_in(&s, s.base, BASE, 8), FREE_WRONG_CLASS);
        CHECK_STATUS(free_in(&s, s.base, 8, 8), FREE_DOUBLE);
        CHECK_CONSERVED(s.zone);
        slabmalloc_zone_destroy(s.zone);
        memory_free(s.base, 4096);
        memory_free(s.large, SLABMALLOC_LARGE_PAGE_BYTES);
        memory_free(s.outside, 4096);
    }
}

static void refills_that_are_refused(void)
{
    scene s = scene_new(false);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, 0, 8, s.outside, 4096), INVALID_LAYOUT);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, 8, 3, s.outside, 4096), INVALID_LAYOUT);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, 131073, 8, s.outside, 4096), INVALID_LAYOUT);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, 8, 8, NULL, 4096), PAGE_MISALIGNED);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, 8, 8, s.outside + 64, 4096), PAGE_MISALIGNED);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, 8, 8, s.outside + 1, 4096), PAGE_MISALIGNED);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, 8, 8, s.outside, 8192), PAGE_SIZE);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, 8, 8, s.outside, 2048), PAGE_SIZE);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, 8, 8, s.outside, 0), PAGE_SIZE);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, 8, 8, s.outside, SIZE_MAX), PAGE_SIZE);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, 8, 8, s.outside, SLABMALLOC_LARGE_PAGE_BYTES), PAGE_SIZE);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, LARGE, 8, s.outside, 4096), PAGE_SIZE);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, BASE, 8, s.base, 4096), PAGE_IN_USE);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, 8, 8, s.base, 4096), PAGE_IN_USE);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, LARGE, 8, s.large, SLABMALLOC_LARGE_PAGE_BYTES), PAGE_IN_USE);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, BASE, 8, s.large, 4096), PAGE_IN_USE); /* within a page of this zone */
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, BASE, 8, s.large + 4096, 4096), PAGE_IN_USE);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, BASE, 8, s.large + SLABMALLOC_LARGE_PAGE_BYTES - 4096, 4096),
                 PAGE_IN_USE);
    slabmalloc_zone *other = zone_default();
    CHECK_STATUS(slabmalloc_zone_refill(other, BASE, 8, s.base, 4096),
                 PAGE_IN_USE); /* carries a slab of another zone */
    CHECK_STATUS(slabmalloc_zone_refill(other, 8, 8, s.base, 4096), PAGE_IN_USE);
    CHECK_STATUS(slabmalloc_zone_refill(other, LARGE, 8, s.large, SLABMALLOC_LARGE_PAGE_BYTES), PAGE_IN_USE);
    CHECK_CONSERVED(other);
    slabmalloc_zone_destroy(other);
    scene_end(&s);
}

static void a_page_around_one_of_ours_is_refused(void)
{
    scene s = scene_new(false);
    char *around = large_page();
    CHECK_OK(slabmalloc_zone_refill(s.zone, 8, 8, around + 8192, 4096));
    s.before = slabmalloc_zone_stats(s.zone, -1);
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, LARGE, 8, around, SLABMALLOC_LARGE_PAGE_BYTES), PAGE_IN_USE);
    CHECK_OK(slabmalloc_zone_refill(s.zone, 8, 8, around + 4096, 4096));
    CHECK_OK(slabmalloc_zone_refill(s.zone, 8, 8, around, 4096));
    page_list back = {0};
    CHECK_EQUAL(slabmalloc_zone_reclaim(s.zone, slabmalloc_zone_class_of(s.zone, 8, 8), 4096, 3, page_list_add, &back),
                3);
    CHECK_OK(slabmalloc_zone_refill(s.zone, LARGE, 8, around, SLABMALLOC_LARGE_PAGE_BYTES));
    CHECK_STATUS(slabmalloc_zone_refill(s.zone, 8, 8, around + 8192, 4096), PAGE_IN_USE);
    CHECK_EQUAL(slabmalloc_zone_reclaim(s.zone, -1, SLABMALLOC_LARGE_PAGE_BYTES, 1, page_list_add, &back), 1);
    CHECK_POINTER(back.pages[3], around);
    s.before = slabmalloc_zone_stats(s.zone, -1);
    scene_end(&s);
    memory_free(around, SLABMALLOC_LARGE_PAGE_BYTES);
}

static void a_page_of_an_ended_zone_is_free_again(void)
{
    char *page = object_page();
    slabmalloc_zone *zone = zone_default();
    CHECK_OK(slabmalloc_zone_refill(zone, 8, 8, page, 4096));
    CHECK(slabmalloc_zone_allocate(zone, 8, 8) != NULL);
    slabmalloc_zone_destroy(zone);
    zone = zone_default();
    CHECK_OK(slabmalloc_zone_refill(zone, 256, 8, page, 4096));
    CHECK_POINTER(slabmalloc_zone_allocate(zone, 256, 8), page);
    CHECK_CONSERVED(zone);
    slabmalloc_zone_destroy(zone);
    memory_free(page, 4096);
}

static void restores_that_are_refused(void)
{
    scene s = scene_new(false);
    CHECK_STATUS(slabmalloc_zone_restore(s.zone, NULL, 4096), PAGE_MISALIGNED);
    CHECK_STATUS(slabmalloc_zone_restore(s.zone, s.outside + 8, 4096), PAGE_MISALIGNED);
    /* A size that pages have, but none of this zone: which of three truths is told is not promised. */
    slabmalloc_status status = slabmalloc_zone_restore(s.zone, s.large + 8192, 8192);
    CHECK(status == SLABMALLOC_PAGE_SIZE || status == SLABMALLOC_PAGE_IN_USE || status == SLABMALLOC_PAGE_UNREADABLE);
    CHECK_STATUS(slabmalloc_zone_restore(s.zone, s.outside, 2048), PAGE_SIZE);
    CHECK_STATUS(slabmalloc_zone_restore(s.zone, s.outside, 4104), PAGE_SIZE);
    CHECK_STATUS(slabmalloc_zone_restore(s.zone, s.outside, 0), PAGE_SIZE);
    CHECK_STATUS(slabmalloc_zone_restore(s.zone, s.outside, 1), PAGE_SIZE);
    CHECK_STATUS(slabmalloc_zone_restore(s.zone, s.outside, SIZE_MAX), PAGE_SIZE);
    CHECK_STATUS(slabmalloc_zone_restore(s.zone, s.outside, 4096), PAGE_UNREADABLE);
    CHECK_STATUS(slabmalloc_zone_restore(s.zone, s.base, 4096), PAGE_IN_USE);
    scene_end(&s);
}

int main(void)
{
    RUN(frees_with_an_invalid_layout);
    RUN(frees_on_no_page);
    RUN(frees_of_the_wrong_class);
    RUN(frees_between_slots);
    RUN(frees_of_what_was_never_allocated);
    RUN(double_frees);
    RUN(a_slab_that_is_not_current);
    RUN(a_reclaimed_page_is_foreign);
    RUN(refills_that_are_refused);
    RUN(a_page_around_one_of_ours_is_refused);
    RUN(a_page_of_an_ended_zone_is_free_again);
    RUN(restores_that_are_refused);
    return check_finish();
}
