/* SPDX-License-Identifier: MIT
 *
 * What heaps cost beside their pages: little while they use few classes, and nothing once they hold nothing and nobody
 * owns them.
 */
#include "hardened_fixture.h"
#include "limits.h"

#include "slab/pager.h"

static size_t books_bytes(const heap *h) { return slabmalloc_zone_bookkeeping_bytes(h->view.zone); }

/* Of the chunk that the heap lies in: all that it has, as long as it has few slabs. */
static size_t resident_bytes(const heap *h)
{
    return os_resident_bytes((void *)((uintptr_t)h & ~(uintptr_t)(os_page_bytes() - 1)), books_bytes(h));
}

/* ---- living ------------------------------------------------------------------------------------------------ */

static void a_class_that_nobody_needed_costs_nothing(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 1000);
    heap *h = heap_of(s);
    static const size_t sizes[] = {24, 48, 100, 200};
    enum { FEW = sizeof sizes / sizeof *sizes };
    CHECK_EQUAL(zone_sc_count(h->view.zone), 0);
    for (size_t round = 0; round < 3; round++)
        for (size_t i = 0; i < FEW; i++) {
            void *object = heap_allocate(h, sizes[i]);
            CHECK_OK(heap_free(h, object));
            CHECK(heap_allocate(h, sizes[i]) != NULL);
        }
    CHECK_EQUAL(zone_sc_count(h->view.zone), FEW);
    CHECK(is_emulated() || resident_bytes(h) <= max_size(12 * KIB, 2 * os_page_bytes()));
    CHECK_HEAP(h, 3 * FEW);
    space_destroy(s);
}

/* In whichever order and by whichever call a class is needed first, it is the right one. */
static void classes_begin_in_any_order(void)
{
    check_seed = 67;
    random_source source = random_from(check_seed);
    for (int round = 0; round < 20; round++) {
        space *s = space_new(4096 * (size_t)MIB, 1, 1000);
        heap *h = heap_of(s);
        const slabmalloc_size_classes *classes = slabmalloc_zone_classes(h->view.zone);
        size_t made = 0;
        for (; made < 2000; made++) {
            uint32_t class_index = (uint32_t)random_below(&source, classes->count);
            size_t least = class_index == 0 ? 1 : classes->sizes[class_index - 1] + 1;
            size_t bytes = least + random_below(&source, classes->sizes[class_index] - least + 1);
            char *object = made % 3 == 0   ? heap_allocate_aligned(h, bytes, 16)
                           : made % 3 == 1 ? heap_allocate_zeroed(h, bytes)
                                           : heap_allocate(h, bytes);
            REQUIRE(object != NULL);
            CHECK_EQUAL(heap_usable_bytes(s, object), classes->sizes[class_index]);
            object[bytes - 1] = 1;
            size_t align = (size_t)16 << random_below(&source, 9);
            bytes = 1 + random_below(&source, HEAP_SMALL_BYTES);
            object = heap_allocate_aligned(h, bytes, align);
            CHECK(object != NULL && (uintptr_t)object % align == 0 && heap_may_have_size(s, object, bytes, align));
            CHECK_OK(heap_free(h, object));
        }
        CHECK_EQUAL(zone_sc_count(h->view.zone), classes->count);
        CHECK_HEAP(h, made);
        space_destroy(s);
    }
}

/* ---- ended ------------------------------------------------------------------------------------------------- */

enum { MANY = 1000, EACH = 5 };

/* Many heaps at once, each of which used some classes; what they did is counted on when they have ended. */
static void many_end(uint32_t decay_ms, bool by_trim)
{
    space *s = space_new(4096 * (size_t)MIB, 1, decay_ms);
    heap *mine = heap_of(s);
    static heap *heaps[MANY];
    static void *objects[MANY][EACH];
    REQUIRE(heap_free(mine, heap_allocate(mine, 100)) == SLABMALLOC_OK);
    space_stats before = space_statistics(s);
    for (size_t a = 0; a < MANY; a++) {
        heaps[a] = heap_of(s);
        for (size_t i = 0; i < EACH; i++)
            REQUIRE((objects[a][i] = heap_allocate(heaps[a], (size_t)24 << i)) != NULL);
        CHECK_OK(heap_free(heaps[a], objects[a][0]));
        count_add(&heaps[a]->tallies[1].freed_blocks, 1);
    }
    CHECK(is_emulated() || resident_bytes(heaps[MANY / 2]) <= max_size(12 * KIB, 2 * os_page_bytes()));
    CHECK(space_statistics(s).bookkeeping_bytes <= before.bookkeeping_bytes + MANY * 64 * KIB);
    for (size_t a = 0; a < MANY; a++) {
        heap_abandon(heaps[a]);
        for (size_t i = 1; i < EACH; i++)
            CHECK_OK(i % 2 ? heap_free(mine, objects[a][i]) : heap_free_remote(s, objects[a][i]));
    }
    uint64_t given_back = space_statistics(s).given_back_bytes;
    if (by_trim)
        heap_trim(mine);
    for (size_t i = 0; !by_trim && i < 4 * MANY; i++)
        heap_tick(mine);
    space_stats after = space_statistics(s);
    CHECK_EQUAL(after.heaps, 1);
    CHECK_EQUAL(after.abandoned_heaps, 0);
    CHECK_EQUAL(after.bookkeeping_bytes, before.bookkeeping_bytes);
    CHECK_EQUAL(after.remote_frees, MANY * (EACH - 1));
    CHECK(after.given_back_bytes >= given_back);
    CHECK_EQUAL(s->past.tallies[1].freed_blocks, MANY);
    CHECK_EQUAL(s->past.tallies[1].served_blocks, 0);
    CHECK_HEAP(mine, 0);
    space_destroy(s);
}

static void many_end_by_a_trim(void) { many_end(1000000, true); }
static void many_end_by_ticks(void) { many_end(0, false); }

/* As a tick does it, which comes to each again after a decay. */
static bool look_after(space *s)
{
    heap *h = heap_borrow(s, UINT64_MAX, 0);
    if (h != NULL)
        heap_return(h, false);
    return h != NULL;
}

static void who_comes_in_time_finds_the_heap(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 1000000);
    heap *mine = heap_of(s), *other = heap_of(s);
    heap_abandon(other);
    CHECK(look_after(s));
    CHECK_POINTER(heap_open(s, NULL), other);
    heap_abandon(other);
    CHECK(look_after(s)); /* it has had an owner since: so this is the first time */
    CHECK_EQUAL(space_statistics(s).heaps, 2);
    CHECK(look_after(s));
    CHECK_EQUAL(space_statistics(s).heaps, 1);
    CHECK(!look_after(s));
    CHECK(heap_of(s) != mine);
    CHECK_EQUAL(space_statistics(s).heaps, 2);
    space_destroy(s);
}

static void a_heap_with_an_object_does_not_end(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 1000000);
    heap *mine = heap_of(s), *other = heap_of(s);
    void *object = heap_allocate(other, 100);
    heap_abandon(other);
    for (int i = 0; i < 5; i++)
        CHECK(look_after(s));
    heap_trim(mine);
    CHECK_EQUAL(space_statistics(s).heaps, 2);
    CHECK_OK(heap_free(mine, object));
    for (int i = 0; i < 5; i++) /* nobody collects */
        CHECK(look_after(s));
    CHECK_EQUAL(space_statistics(s).heaps, 2);
    heap_trim(mine);
    CHECK_EQUAL(space_statistics(s).heaps, 1);
    space_destroy(s);
}

/* Heaps end from the list's middle and both its ends, and from the list of all heaps. */
static void the_lists_stay_whole(void)
{
    enum { COUNT = 12 };
    check_seed = 71;
    random_source source = random_from(check_seed);
    for (int round = 0; round < 200; round++) {
        space *s = space_new(RESERVE_LEAST, 1, 1000000);
        heap *mine = heap_of(s), *heaps[COUNT];
        void *objects[COUNT];
        size_t left = 0;
        for (size_t i = 0; i < COUNT; i++) {
            REQUIRE((heaps[i] = heap_of(s)) != NULL);
            objects[i] = random_below(&source, 2) ? heap_allocate(heaps[i], 64) : NULL;
            left += objects[i] != NULL;
        }
        for (size_t i = 0; i < COUNT; i++)
            heap_abandon(heaps[i]);
        heap_trim(mine);
        CHECK_EQUAL(space_statistics(s).abandoned_heaps, left);
        size_t found = 0;
        for (const heap *h = s->heaps; h != NULL; h = h->next) {
            CHECK(h->next == NULL || h->next->previous == h);
            found++;
        }
        CHECK_EQUAL(found, left + 1);
        CHECK(left == 0 || s->last_abandoned->next_abandoned == NULL);
        for (size_t i = 0; i < COUNT; i++) /* in their order, and then new ones */
            if (objects[i] != NULL)
                CHECK_POINTER(heap_open(s, NULL), heaps[i]);
        CHECK_POINTER(s->abandoned, NULL);
        heap *fresh = heap_of(s);
        heap_abandon(fresh);
        CHECK_POINTER(s->last_abandoned, fresh);
        CHECK_EQUAL(space_statistics(s).heaps, left + 2);
        space_destroy(s);
    }
}

static void a_hardened_heap_that_keeps_others_blocks_back_stays(void)
{
    space_options options = space_options_default();
    options.reserve_bytes = RESERVE_LEAST;
    options.is_hardened = true;
    space *s = space_create(&options);
    REQUIRE(s != NULL);
    heap *mine = heap_of(s), *other = heap_of(s);
    CHECK_OK(heap_free(other, heap_allocate(mine, 100)));
    heap_abandon(other);
    for (int i = 0; i < 5; i++)
        CHECK(look_after(s));
    CHECK_EQUAL(space_statistics(s).heaps, 2);
    heap_trim(mine);
    CHECK_EQUAL(space_statistics(s).heaps, 1);
    CHECK_HEAP(mine, 0);
    space_destroy(s);
}

/* Nor does what it keeps back of its own keep it, once nobody has come for it for a while. */
static void a_hardened_heap_ends_when_nobody_comes(void)
{
    space *s = hardened_space_new(RESERVE_LEAST);
    heap *h = heap_of(s), *other = heap_of(s);
    for (size_t bytes = 1; bytes < 100000; bytes *= 3) {
        CHECK_OK(heap_free(h, heap_allocate(h, bytes)));
        CHECK_OK(heap_free(other, heap_allocate(h, bytes)));
    }
    heap_abandon(h);
    heap_abandon(other);
    uint64_t now_ms = space_now_ms();
    for (int looks = 0; looks < 200; looks++)
        heap_tend_abandoned(s, now_ms += s->options.decay_ms);
    CHECK_EQUAL(space_statistics(s).heaps, 0);
    CHECK_EQUAL(damages_of(s), 0);
    space_destroy(s);
}

/* ---- beside others ----------------------------------------------------------------------------------------- */

enum { OWNERS = 3, PLACES = 64, LIVES = UNDER_TSAN || UNDER_ASAN ? 300 : 3000 };

typedef struct scene {
    space *s;
    void *_Atomic places[PLACES];
    atomic_size_t remote_frees, begun, done;
} scene;

/* Puts an object there; what was there is freed, as if by a thread without a heap. */
static void put(scene *c, size_t place, void *object)
{
    void *before = atomic_exchange(&c->places[place], object);
    if (before == NULL)
        return;
    CHECK(heap_usable_bytes(c->s, before) > 0);
    CHECK_OK(heap_free_remote(c->s, before));
    atomic_fetch_add(&c->remote_frees, 1);
}

static void *live_and_end(void *context)
{
    scene *c = context;
    random_source source = random_from(check_seed + atomic_fetch_add(&c->begun, 1));
    for (int life = 0; life < LIVES; life++) {
        heap *h = heap_of(c->s);
        for (int i = 0; i < 4; i++) {
            void *object = heap_allocate(h, (size_t)16 << random_below(&source, 6));
            REQUIRE(object != NULL);
            put(c, random_below(&source, PLACES), object);
        }
        if (life % 8 == 0) /* most of what is abandoned holds nothing now and then */
            for (size_t i = 0; i < PLACES; i++)
                put(c, i, NULL);
        heap_abandon(h);
    }
    atomic_fetch_add(&c->done, 1);
    return NULL;
}

/* Heaps end while their last objects are freed, others look at what is there, and trim. */
static void heaps_end_beside_others(void)
{
    check_seed = 73;
    scene c = {.s = space_new(4096 * (size_t)MIB, 1, 0)};
    heap *mine = heap_of(c.s);
    pthread_t owners[OWNERS];
    for (size_t i = 0; i < OWNERS; i++)
        owners[i] = start(live_and_end, &c);
    for (size_t i = 0; atomic_load(&c.done) < OWNERS; i++) {
        space_stats stats = space_statistics(c.s);
        CHECK(stats.heaps >= 1 && stats.heaps >= stats.abandoned_heaps);
        heap_inspect(c.s, (void *)(mine->view.base + i % 64 * HEAP_PAGE_BYTES));
        heap_tick(mine);
        if (i % 16 == 0)
            heap_trim(mine);
    }
    for (size_t i = 0; i < OWNERS; i++)
        pthread_join(owners[i], NULL);
    for (size_t i = 0; i < PLACES; i++)
        put(&c, i, NULL);
    heap_trim(mine);
    space_stats stats = space_statistics(c.s);
    CHECK_EQUAL(stats.heaps, 1);
    CHECK_EQUAL(stats.remote_frees, atomic_load(&c.remote_frees));
    CHECK_EQUAL(stats.mapped_bytes, 0);
    CHECK_HEAP(mine, 0);
    space_destroy(c.s);
}

int main(void)
{
    alarm(300);
    RUN(a_class_that_nobody_needed_costs_nothing);
    RUN(classes_begin_in_any_order);
    RUN(many_end_by_a_trim);
    RUN(many_end_by_ticks);
    RUN(who_comes_in_time_finds_the_heap);
    RUN(a_heap_with_an_object_does_not_end);
    RUN(the_lists_stay_whole);
    RUN(a_hardened_heap_that_keeps_others_blocks_back_stays);
    RUN(a_hardened_heap_ends_when_nobody_comes);
    RUN(heaps_end_beside_others);
    return check_finish();
}
