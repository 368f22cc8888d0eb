/* SPDX-License-Identifier: MIT
 *
 * Large objects, at random and in numbers: every account after each step, contents that are zero when that is said, a
 * table that grows and shrinks, and several threads at once.
 */
#include "space_fixture.h"

static large_space *large_new(void)
{
    large_space *l = calloc(1, sizeof *l);
    REQUIRE(l != NULL && large_init(l, &no_huge_pages, false));
    return l;
}

static void large_delete(large_space *l)
{
    large_end(l);
    free(l);
}

typedef struct block {
    char *object;
    size_t bytes;
    uint64_t tag;
} block;

static void random_steps_keep_the_accounts(void)
{
    enum { LIVE = 40 };
    check_seed = 21;
    random_source source = random_from(check_seed);
    large_space *l = large_new();
    block live[LIVE];
    size_t count = 0, steps = UNDER_TSAN || UNDER_ASAN ? 600 : 3000, zero = 0, resized = 0;
    uint64_t served = 0, gone = 0; /* gone: seen to go back by this test */
    for (uint64_t step = 0; step < steps; step++) {
        large_rest rest = {random_below(&source, 6) == 0 ? 0 : 6 * MIB, random_below(&source, 64 * MIB), step};
        size_t what = random_below(&source, 100), i = count == 0 ? 0 : random_below(&source, count);
        if (count == 0 || (what < 48 && count < LIVE)) {
            size_t bytes = 129 * KIB + random_below(&source, what == 0 ? 6 * MIB : 600 * KIB);
            size_t align = (size_t)16 << (what % 4 == 0 ? random_below(&source, 18) : 0);
            bool is_zero;
            char *object = large_allocate(l, bytes, align, &is_zero);
            REQUIRE(object != NULL);
            served++;
            size_t usable = large_usable_bytes(l, object);
            CHECK(usable >= bytes && (uintptr_t)object % align == 0);
            zero += is_zero;
            if (is_zero)
                CHECK(all_zero(object, usable));
            memset(object + usable - 8, 0xEE, 8);
            stamp(object, usable, step);
            live[count++] = (block){object, usable, step};
        } else if (what < 85) {
            CHECK(is_stamped(live[i].object, live[i].bytes, live[i].tag));
            CHECK_EQUAL(large_usable_bytes(l, live[i].object), live[i].bytes);
            CHECK(large_free(l, live[i].object, &rest));
            live[i] = live[--count];
        } else if (what < 95) {
            size_t bytes = 129 * KIB + random_below(&source, 2 * MIB);
            char *object = large_resize(l, live[i].object, bytes, &(size_t){0});
            REQUIRE(object != NULL);
            CHECK(is_stamped(object, bytes < live[i].bytes ? bytes : live[i].bytes, live[i].tag));
            served += object != live[i].object;
            size_t usable = large_usable_bytes(l, object);
            CHECK(usable >= bytes);
            stamp(object, usable, step);
            live[i] = (block){object, usable, step};
            resized++;
        } else {
            uint64_t before = l->given_back_bytes;
            size_t rested = l->resting_bytes;
            if (what == 99)
                CHECK_EQUAL(large_trim(l), rested);
            else
                large_decay(l, step - random_below(&source, 40));
            CHECK_EQUAL(l->given_back_bytes - before, rested - l->resting_bytes);
        }
        size_t live_bytes = 0;
        for (size_t k = 0; k < count; k++)
            live_bytes += live[k].bytes;
        CHECK(large_is_valid(l));
        CHECK_EQUAL(l->live_bytes, live_bytes);
        CHECK_EQUAL(l->live_count, count);
        CHECK_EQUAL(l->served_count, served);
        CHECK(l->peak_bytes >= l->live_bytes + l->resting_bytes);
        CHECK(l->given_back_bytes >= gone);
        gone = l->given_back_bytes;
    }
    CHECK(zero > 0 && resized > 0 && l->reused_count > served / 20); /* the steps did see all that */
    large_delete(l);
}

static void many_blocks(void)
{
    size_t count = UNDER_TSAN || UNDER_ASAN ? 4000 : 20000, bytes = 0;
    check_seed = 22;
    random_source source = random_from(check_seed);
    large_space *l = large_new();
    block *blocks = calloc(count, sizeof *blocks);
    REQUIRE(blocks != NULL);
    size_t buckets = l->bucket_count;
    for (size_t i = 0; i < count; i++) {
        bool is_zero;
        blocks[i].object = large_allocate(l, 4096 * (1 + i % 3), 16, &is_zero);
        REQUIRE(blocks[i].object != NULL);
        blocks[i].bytes = large_usable_bytes(l, blocks[i].object);
        bytes += blocks[i].bytes;
        if (i % 1000 == 0)
            CHECK(large_is_valid(l));
    }
    CHECK(l->bucket_count > buckets);
    CHECK_EQUAL(l->live_bytes, bytes);
    CHECK_EQUAL(l->live_count, count);
    size_t bookkeeping = l->store.bytes;
    for (int round = 0; round < 3; round++) { /* records are used again: bookkeeping stays as it is */
        large_rest rest = {.bound_bytes = round == 1 ? 64 * MIB : 0, .other_live_bytes = 0, .now_ms = 1};
        for (size_t i = count; i-- > 1;) { /* in no order */
            size_t other = random_below(&source, i + 1);
            block b = blocks[i];
            blocks[i] = blocks[other];
            blocks[other] = b;
        }
        for (size_t i = 0; i < count; i++) {
            CHECK_EQUAL(large_usable_bytes(l, blocks[i].object), blocks[i].bytes);
            CHECK(large_free(l, blocks[i].object, &rest));
            if (i % 1000 == 0)
                CHECK(large_is_valid(l));
        }
        CHECK_EQUAL(l->live_bytes + l->live_count, 0);
        CHECK(large_is_valid(l));
        large_trim(l);
        CHECK_EQUAL(l->resting_bytes, 0);
        for (size_t i = 0; i < count && round < 2; i++) {
            blocks[i].object = large_allocate(l, 4096, 16, &(bool){false});
            REQUIRE(blocks[i].object != NULL);
            blocks[i].bytes = large_usable_bytes(l, blocks[i].object);
        }
    }
    CHECK(l->store.bytes <= bookkeeping + bookkeeping / 8);
    free(blocks);
    large_delete(l);
}

/* ---- threads: a table of places for blocks; each step exchanges what is at one ---- */

enum { THREADS = 4, PLACES = 24 };

typedef struct shared {
    large_space *l;
    char *_Atomic places[PLACES];
} shared;

typedef struct worker {
    shared *all;
    uint64_t seed;
} worker;

static void drop(large_space *l, char *object, uint64_t now_ms)
{
    if (object == NULL)
        return;
    size_t bytes;
    memcpy(&bytes, object, sizeof bytes);
    CHECK(is_stamped(object + 8, bytes - 8, (uintptr_t)bytes));
    CHECK(large_usable_bytes(l, object) >= bytes);
    large_rest rest = {4 * MIB, 0, now_ms};
    CHECK(large_free(l, object, &rest));
}

static void *run_worker(void *context)
{
    worker *w = context;
    random_source source = random_from(w->seed);
    large_space *l = w->all->l;
    for (uint64_t step = 0; step < amount(3000); step++) {
        size_t bytes = 129 * KIB + random_below(&source, 100 * KIB), what = random_below(&source, 100);
        char *object = NULL;
        if (what < 60) {
            bool is_zero;
            object = large_allocate(l, bytes, what == 0 ? MIB : 16, &is_zero);
            REQUIRE(object != NULL);
            if (is_zero && what < 6)
                CHECK(all_zero(object, bytes));
            memcpy(object, &bytes, sizeof bytes);
            stamp(object + 8, bytes - 8, (uintptr_t)bytes);
        } else if (what < 70) {
            char *other =
                atomic_exchange_explicit(&w->all->places[random_below(&source, PLACES)], NULL, memory_order_acq_rel);
            if (other != NULL) {
                size_t before;
                memcpy(&before, other, sizeof before);
                other = large_resize(l, other, bytes, &(size_t){0});
                REQUIRE(other != NULL);
                CHECK(is_stamped(other + 8, (before < bytes ? before : bytes) - 8, (uintptr_t)before));
                memcpy(other, &bytes, sizeof bytes);
                stamp(other + 8, bytes - 8, (uintptr_t)bytes);
                object = other;
            }
        } else if (what < 72) {
            large_decay(l, step);
        } else if (what == 72) {
            large_trim(l);
        }
        drop(l, atomic_exchange_explicit(&w->all->places[random_below(&source, PLACES)], object, memory_order_acq_rel),
             step);
    }
    return NULL;
}

static void several_threads_at_once(void)
{
    check_seed = 23;
    shared all = {.l = large_new()};
    worker workers[THREADS];
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (worker){&all, check_seed * 100 + i};
        threads[i] = start(run_worker, &workers[i]);
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(large_is_valid(all.l));
    for (size_t i = 0; i < PLACES; i++)
        drop(all.l, all.places[i], 1);
    CHECK_EQUAL(all.l->live_count + all.l->live_bytes, 0);
    CHECK(large_is_valid(all.l));
    large_trim(all.l);
    CHECK_EQUAL(all.l->resting_bytes, 0);
    large_delete(all.l);
}

int main(void)
{
    RUN(random_steps_keep_the_accounts);
    RUN(many_blocks);
    RUN(several_threads_at_once);
    return check_finish();
}
