/* SPDX-License-Identifier: MIT
 *
 * Heaps of one space, step by step: frees across them in all combinations, heaps that are abandoned and adopted with
 * all their objects, and nothing that is stranded in one that nobody adopts.
 */
#include "space_fixture.h"

#include <sys/wait.h>

static const size_t kinds[] = {16, 100, 1000, 8192, 20000, 131072, 131073, 1000000};
enum { KINDS = sizeof kinds / sizeof *kinds, PER_KIND = 5, NOBODY = 3 };

static void frees_across_heaps_in_all_combinations(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 1000);
    heap *heaps[3] = {heap_of(s), heap_of(s), heap_of(s)};
    CHECK_EQUAL(space_statistics(s).heaps, 3);
    for (size_t from = 0; from < 3; from++)
        for (size_t by = 0; by <= NOBODY; by++) {
            char *objects[KINDS * PER_KIND];
            for (size_t i = 0; i < KINDS * PER_KIND; i++) {
                REQUIRE((objects[i] = heap_allocate(heaps[from], kinds[i % KINDS])) != NULL);
                stamp(objects[i], kinds[i % KINDS], i);
            }
            CHECK_HEAP(heaps[by % 3], KINDS * PER_KIND);
            for (size_t i = 0; i < KINDS * PER_KIND; i++) {
                CHECK(is_stamped(objects[i], kinds[i % KINDS], i));
                CHECK(heap_usable_bytes(s, objects[i]) >= kinds[i % KINDS]);
                if (kinds[i % KINDS] <= HEAP_MEDIUM_BYTES)
                    CHECK_STATUS(by == NOBODY ? heap_free_remote(s, objects[i] + 8)
                                              : heap_free(heaps[by], objects[i] + 8),
                                 FREE_INTERIOR);
                CHECK_OK(by == NOBODY ? heap_free_remote(s, objects[i]) : heap_free(heaps[by], objects[i]));
                for (size_t again = 0; again < 3; again++)
                    CHECK(heap_free(heaps[again], objects[i]) != SLABMALLOC_OK);
                CHECK(heap_free_remote(s, objects[i]) != SLABMALLOC_OK);
                CHECK_EQUAL(heap_usable_bytes(s, objects[i]), 0);
            }
            for (size_t i = 0; i < 3; i++)
                CHECK_HEAP(heaps[i], 0);
        }
    for (size_t i = 0; i < 3; i++)
        heap_trim(heaps[i]);
    CHECK_EQUAL(space_statistics(s).mapped_bytes, 0);
    space_destroy(s);
}

typedef struct guest {
    space *s;
    heap *h;
    char *objects[KINDS * PER_KIND];
} guest;

static void *run_guest(void *context)
{
    guest *g = context;
    g->h = heap_of(g->s);
    for (size_t i = 0; i < KINDS * PER_KIND; i++) {
        REQUIRE((g->objects[i] = heap_allocate(g->h, kinds[i % KINDS])) != NULL);
        stamp(g->objects[i], kinds[i % KINDS], i);
    }
    heap_abandon(g->h);
    return NULL;
}

static void objects_survive_their_heaps_owner(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 0);
    heap *mine = heap_of(s);
    for (int adopted = 0; adopted < 2; adopted++) {
        guest g = {.s = s};
        pthread_join(start(run_guest, &g), NULL);
        CHECK(g.h != mine);
        CHECK_EQUAL(space_statistics(s).abandoned_heaps, 1);
        for (int i = 0; i < 50; i++) /* looked after, but in use */
            heap_tick(mine);
        heap_trim(mine);
        CHECK_HEAP(mine, KINDS * PER_KIND);
        if (adopted) {
            heap *h = heap_of(s);
            CHECK_POINTER(h, g.h);
            CHECK_EQUAL(space_statistics(s).abandoned_heaps, 0);
            CHECK_HEAP(h, KINDS * PER_KIND);
        }
        for (size_t i = 0; i < KINDS * PER_KIND; i++) {
            CHECK(is_stamped(g.objects[i], kinds[i % KINDS], i));
            CHECK_OK(heap_free(adopted ? g.h : mine, g.objects[i]));
        }
        CHECK_HEAP(mine, 0);
        if (adopted) {
            heap_trim(g.h);
            heap_abandon(g.h);
        }
        for (int i = 0; i < 50; i++)
            heap_tick(mine);
        heap_trim(mine);
        CHECK_EQUAL(space_statistics(s).mapped_bytes, 0);
        CHECK_EQUAL(space_statistics(s).heaps, 1); /* the other one has ended */
    }
    space_destroy(s);
}

/* Each of several abandoned heaps has its turn: with ticks alone all that others free in them goes back. */
static void tend_all(uint32_t decay_ms, unsigned pause_ms)
{
    enum { ABANDONED = 6, OBJECTS = 200 };
    space *s = space_new(RESERVE_LEAST, 1, decay_ms);
    heap *mine = heap_of(s), *others[ABANDONED];
    static char *objects[ABANDONED][OBJECTS];
    for (size_t a = 0; a < ABANDONED; a++) {
        others[a] = heap_of(s);
        for (size_t i = 0; i < OBJECTS; i++)
            REQUIRE((objects[a][i] = heap_allocate(others[a], 4096)) != NULL);
    }
    for (size_t a = 0; a < ABANDONED; a++)
        heap_abandon(others[a]);
    for (size_t a = 0; a < ABANDONED; a++)
        for (size_t i = 0; i < OBJECTS; i++)
            CHECK_OK(i % 2 == 0 ? heap_free(mine, objects[a][i]) : heap_free_remote(s, objects[a][i]));
    for (int i = 0; i < 40; i++) {
        heap_tick(mine);
        if (pause_ms > 0)
            sleep_ms(pause_ms);
    }
    CHECK_HEAP(mine, 0);
    CHECK_EQUAL(space_statistics(s).mapped_bytes, space_statistics(s).resting_bytes); /* no heap holds a page */
    CHECK_EQUAL(space_statistics(s).heaps, 1);                                        /* and then they have ended */
    space_destroy(s);
}

static void every_abandoned_heap_is_tended(void) { tend_all(0, 0); }
static void every_abandoned_heap_is_tended_by_rare_ticks(void) { tend_all(10, 20); }

static void ten_thousand_owners(void)
{
    size_t owners = UNDER_TSAN || UNDER_ASAN ? 2000 : 10000, bookkeeping = 0, mapped = 0;
    check_seed = 61;
    random_source source = random_from(check_seed);
    space *s = space_new(RESERVE_LEAST, 1, 0);
    enum { KEPT = 64 };
    char *kept[KEPT] = {NULL};
    for (size_t owner = 0; owner < owners; owner++) {
        heap *h = heap_of(s), *second = owner % 16 == 0 ? heap_of(s) : NULL;
        for (int i = 0; i < 8; i++) {
            size_t place = random_below(&source, KEPT);
            if (kept[place] != NULL)
                CHECK_OK(heap_free(second != NULL && i % 2 ? second : h, kept[place]));
            kept[place] = heap_allocate(i % 3 == 0 && second != NULL ? second : h, kinds[random_below(&source, KINDS)]);
            REQUIRE(kept[place] != NULL);
        }
        heap_tick(h);
        if (second != NULL)
            heap_abandon(second);
        heap_abandon(h);
        space_stats stats = owner % 100 == 99 ? space_statistics(s) : (space_stats){.heaps = 0};
        CHECK(stats.heaps <= 2);
        if (owner == owners / 4 / 100 * 100 + 99) {
            bookkeeping = stats.bookkeeping_bytes;
            mapped = stats.mapped_bytes;
        }
        if (bookkeeping != 0 && stats.heaps != 0)
            CHECK(stats.bookkeeping_bytes <= bookkeeping + bookkeeping / 4 && stats.mapped_bytes <= 4 * mapped);
    }
    CHECK(bookkeeping > 0);
    heap *h = heap_of(s), *second = heap_of(s);
    for (size_t i = 0; i < KEPT; i++)
        if (kept[i] != NULL)
            CHECK_OK(heap_free(h, kept[i]));
    heap_trim(h);
    heap_trim(second);
    CHECK_HEAP(h, 0);
    CHECK_HEAP(second, 0);
    CHECK_EQUAL(space_statistics(s).mapped_bytes, 0);
    space_destroy(s);
}

/* heap_trim of one asks the others, who do their part at their next tick. */
static void a_trim_reaches_other_heaps(void)
{
    enum { OBJECTS = 3000 };
    space *s = space_new(RESERVE_LEAST, 1, 1000000);
    heap *mine = heap_of(s), *other = heap_of(s);
    static char *objects[OBJECTS];
    for (size_t i = 0; i < OBJECTS; i++) {
        REQUIRE((objects[i] = heap_allocate(other, 1000)) != NULL);
        memset(objects[i], 1, 1000);
    }
    for (size_t i = 1; i < OBJECTS; i++)
        CHECK_OK(i % 2 ? heap_free(other, objects[i]) : heap_free(mine, objects[i]));
    heap_trim(mine);
    heap_tick(other);
    heap_trim(mine); /* what the other left rests, and goes now */
    CHECK_HEAP(mine, 1);
    CHECK(space_statistics(s).mapped_bytes <= 2 * HEAP_PAGE_BYTES);
    CHECK(space_statistics(s).given_back_bytes >= (size_t)OBJECTS * 1000 - 4 * HEAP_PAGE_BYTES);
    CHECK_OK(heap_free(other, objects[0]));
    space_destroy(s);
}

/* An abandoned heap has no next tick; what is empty there goes back all the same. */
/* Another owner's call is not held up by all of it. */
static void another_heaps_part_of_a_trim_takes_several_ticks(void)
{
    enum { COUNT = 20000, BYTES = 1024, KEPT = 16 };
    space *s = space_new(RESERVE_LEAST, 1, 1000000);
    heap *trims = heap_of(s), *other = heap_of(s);
    static char *objects[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        REQUIRE((objects[i] = heap_allocate(other, BYTES)) != NULL);
        objects[i][0] = 1;
    }
    for (size_t i = 0; i < COUNT; i++)
        if (i % KEPT != 0)
            CHECK_OK(heap_free(other, objects[i]));
    heap_trim(trims);
    uint64_t before = space_statistics(s).given_back_bytes, first = 0, last = before;
    size_t ticks = 0;
    for (; ticks < 10000; ticks++) {
        heap_tick(other);
        uint64_t now = space_statistics(s).given_back_bytes;
        first = ticks == 0 ? now : first;
        if (now == last && !other->is_trimming)
            break;
        last = now;
    }
    CHECK(ticks > 1 && ticks < 10000);
    CHECK(first - before < (last - before) / 2);
    CHECK(last - before > (uint64_t)COUNT * BYTES / 2);
    CHECK_EQUAL(heap_trim(other), 0);
    CHECK_HEAP(other, COUNT / KEPT);
    space_destroy(s);
}

static void a_trim_reaches_abandoned_heaps(void)
{
    enum { OBJECTS = 1000 };
    space *s = space_new(RESERVE_LEAST, 1, 1000000);
    heap *mine = heap_of(s), *other = heap_of(s);
    static char *objects[OBJECTS];
    for (size_t i = 0; i < OBJECTS; i++)
        REQUIRE((objects[i] = heap_allocate(other, 2000)) != NULL);
    heap_abandon(other);
    heap_tick(mine); /* it is looked after while all of them are live */
    for (size_t i = 0; i < OBJECTS; i++)
        CHECK_OK(heap_free(mine, objects[i]));
    for (int i = 0; i < 10; i++) {
        heap_trim(mine);
        heap_tick(mine);
    }
    CHECK_HEAP(mine, 0);
    CHECK_EQUAL(space_statistics(s).mapped_bytes, 0);
    space_destroy(s);
}

/* Its owner was asked for his part, and ends before his next tick: whoever looks after it does that part. */
static void a_trim_reaches_a_heap_that_is_abandoned_meanwhile(void)
{
    enum { COUNT = 4000, BYTES = 1024, KEPT = 16 };
    space *s = space_new(RESERVE_LEAST, 1, 1000000);
    heap *mine = heap_of(s), *other = heap_of(s);
    char **objects = objects_new(other, COUNT, BYTES);
    for (size_t i = 0; i < COUNT; i++)
        if (i % KEPT != 0)
            CHECK_OK(heap_free(other, objects[i]));
    heap_trim(mine);
    uint64_t before = space_statistics(s).given_back_bytes;
    heap_abandon(other);
    for (int i = 0; i < 1000; i++)
        heap_tick(mine);
    CHECK(space_statistics(s).given_back_bytes - before > (uint64_t)COUNT * BYTES / 2);
    CHECK_HEAP(mine, COUNT / KEPT);
    free(objects);
    space_destroy(s);
}

/* ---- many abandoned heaps, each with much to collect, and a thread with a small stack that looks after them ---- */

enum { MANY = 600, EACH = 600 };

static space *the_space;
static heap *opened_meanwhile;
static void (*release)(void *context, void *page, size_t page_bytes);

static bool has_ended(uint64_t owner) { return owner == 4711; }

static void open_and_release(void *context, void *page, size_t page_bytes)
{
    if (opened_meanwhile == NULL)
        opened_meanwhile = heap_open(the_space, has_ended);
    release(context, page, page_bytes);
}

/* An abandoned heap that somebody looks after is his meanwhile, although the owner it had has ended. */
static void a_heap_that_is_tended_is_not_adopted(void)
{
    the_space = space_new(RESERVE_LEAST, 1, 1000);
    heap *abandoned = heap_of(the_space), *other = heap_of(the_space);
    abandoned->owner = 4711;
    CHECK(heap_allocate(abandoned, 128) != NULL); /* else it would end */
    CHECK_OK(heap_free(abandoned, heap_allocate(abandoned, 64)));
    release = abandoned->view.zone->pager.release;
    abandoned->view.zone->pager.release = open_and_release;
    heap_abandon(abandoned);
    heap_trim(other);
    abandoned->view.zone->pager.release = release;
    CHECK(opened_meanwhile != NULL && opened_meanwhile != abandoned);
    CHECK_POINTER(heap_open(the_space, has_ended), abandoned);
    space_destroy(the_space);
}

static void *run_ticks(void *context)
{
    for (int i = 0; i < 4 * MANY; i++)
        heap_tick(context);
    return NULL;
}

static void many_abandoned_heaps_and_a_small_stack(void)
{
    if (UNDER_ASAN || UNDER_TSAN)
        return; /* they need the stack themselves */
    fflush(NULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        space *crowded = space_new(4096 * (size_t)MIB, 1, 50);
        static char *objects[MANY][EACH];
        static heap *heaps[MANY];
        for (size_t a = 0; a < MANY; a++) {
            heaps[a] = heap_of(crowded);
            for (size_t i = 0; i < EACH; i++)
                REQUIRE((objects[a][i] = heap_allocate(heaps[a], HEAP_SMALL_BYTES)) != NULL);
        }
        heap *mine = heap_of(crowded);
        for (size_t a = 0; a < MANY; a++)
            heap_abandon(heaps[a]);
        for (size_t a = 0; a < MANY; a++)
            for (size_t i = 0; i < EACH; i++)
                CHECK_OK(heap_free_remote(crowded, objects[a][i]));
        pthread_attr_t attributes;
        pthread_t thread;
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, 64 * KIB);
        REQUIRE(pthread_create(&thread, &attributes, run_ticks, mine) == 0);
        pthread_join(thread, NULL);
        _exit(atomic_load(&check_failures) != 0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    alarm(300);
    RUN(frees_across_heaps_in_all_combinations);
    RUN(objects_survive_their_heaps_owner);
    RUN(every_abandoned_heap_is_tended);
    RUN(every_abandoned_heap_is_tended_by_rare_ticks);
    RUN(ten_thousand_owners);
    RUN(a_trim_reaches_other_heaps);
    RUN(another_heaps_part_of_a_trim_takes_several_ticks);
    RUN(a_trim_reaches_abandoned_heaps);
    RUN(a_trim_reaches_a_heap_that_is_abandoned_meanwhile);
    RUN(a_heap_that_is_tended_is_not_adopted);
    RUN(many_abandoned_heaps_and_a_small_stack);
    return check_finish();
}
