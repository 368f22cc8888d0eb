/* SPDX-License-Identifier: MIT
 *
 * A process forks while other threads of it are in the midst of their work. The child has the forking thread alone: its
 * heaps are whole, the others' are lost, but their objects are there and may be freed; and the parent notices nothing.
 */
#include "space_fixture.h"

#include <sys/wait.h>

enum { WORKERS = 3, PUBLISHED = 24, PRIVATE = 40, KINDS = 8 };
static const size_t kinds[KINDS] = {16, 100, 1000, 8192, 20000, 131072, 131073, 600000};

typedef struct worker {
    space *s;
    heap *h;
    uint64_t seed;
    char *published[PUBLISHED]; /* live all the time */
    atomic_bool *is_over;
    atomic_size_t steps;
} worker;

static void fill(heap *h, char **objects, size_t count, uint64_t tag)
{
    for (size_t i = 0; i < count; i++) {
        REQUIRE((objects[i] = heap_allocate(h, kinds[i % KINDS])) != NULL);
        stamp(objects[i], kinds[i % KINDS], tag + i);
    }
}

static void check_filled(space *s, char *const *objects, size_t count, uint64_t tag)
{
    for (size_t i = 0; i < count; i++) {
        CHECK(is_stamped(objects[i], kinds[i % KINDS], tag + i));
        CHECK(heap_usable_bytes(s, objects[i]) >= kinds[i % KINDS]);
    }
}

/* Any operation, so that a fork finds each of them half done. */
static void *run_worker(void *context)
{
    worker *w = context;
    random_source source = random_from(w->seed);
    char *own[PRIVATE] = {NULL};
    while (!atomic_load_explicit(w->is_over, memory_order_relaxed)) {
        size_t i = random_below(&source, PRIVATE), what = random_below(&source, 400);
        if (own[i] == NULL) {
            REQUIRE((own[i] = heap_allocate(w->h, kinds[random_below(&source, KINDS)])) != NULL);
            own[i][0] = 1;
        } else if (what % 4 == 0) {
            slabmalloc_status status;
            REQUIRE((own[i] = heap_reallocate(w->h, own[i], kinds[random_below(&source, KINDS)], &status)) != NULL);
        } else {
            CHECK_OK(what % 4 == 1 ? heap_free_remote(w->s, own[i]) : heap_free(w->h, own[i]));
            own[i] = NULL;
        }
        if (what == 0)
            heap_trim(w->h);
        else if (what < 10)
            heap_tick(w->h);
        else if (what == 10) {
            heap *passing = heap_of(w->s);
            CHECK_OK(heap_free(passing, heap_allocate(passing, 64)));
            heap_abandon(passing);
        }
        atomic_fetch_add_explicit(&w->steps, 1, memory_order_relaxed);
    }
    for (size_t i = 0; i < PRIVATE; i++)
        if (own[i] != NULL)
            CHECK_OK(heap_free(w->h, own[i]));
    return NULL;
}

static void work_alone(heap *h, uint64_t seed)
{
    random_source source = random_from(seed);
    char *own[PRIVATE] = {NULL};
    for (int step = 0; step < 600; step++) {
        size_t i = random_below(&source, PRIVATE);
        if (own[i] == NULL) {
            REQUIRE((own[i] = heap_allocate(h, kinds[random_below(&source, KINDS)])) != NULL);
            memset(own[i], 2, 16);
        } else {
            CHECK_OK(heap_free(h, own[i]));
            own[i] = NULL;
        }
        if (step % 50 == 0)
            heap_tick(h);
    }
    for (size_t i = 0; i < PRIVATE; i++)
        if (own[i] != NULL)
            CHECK_OK(heap_free(h, own[i]));
}

typedef struct family {
    space *s;
    heap *mine, *second;
    char *old[PUBLISHED], *second_old[PUBLISHED];
    worker workers[WORKERS];
} family;

static int child(family *f, int round)
{
    heap *const kept[] = {f->mine, f->second};
    space_fork_child(f->s, kept, 2);
    alarm(60);
    atomic_store(&check_failures, 0);
    check_audit(f->mine);
    check_audit(f->second);
    check_filled(f->s, f->old, PUBLISHED, 1000);
    check_filled(f->s, f->second_old, PUBLISHED, 2000);
    work_alone(f->mine, (uint64_t)round);
    for (size_t i = 0; i < PUBLISHED; i++) {
        CHECK_OK(heap_free(i % 2 ? f->mine : f->second, f->old[i]));
        CHECK_OK(heap_free(f->mine, f->second_old[i]));
    }
    /* The others' objects: all are there; each may be freed, once, or moved. */
    for (size_t k = 0; k < WORKERS; k++) {
        worker *w = &f->workers[k];
        check_filled(f->s, w->published, PUBLISHED, w->seed);
        for (size_t i = 0; i < PUBLISHED; i++) {
            char *object = w->published[i];
            if (i % 3 == 0) {
                slabmalloc_status status = SLABMALLOC_OK;
                object = heap_reallocate(f->mine, object, kinds[(i + 3) % KINDS], &status);
                REQUIRE(object != NULL);
                CHECK_OK(status);
                CHECK(is_stamped(object, 16, w->seed + i));
            }
            CHECK_OK(i % 2 ? heap_free(f->mine, object) : heap_free_remote(f->s, object));
            CHECK(heap_free(f->mine, object) != SLABMALLOC_OK);
            CHECK_EQUAL(heap_usable_bytes(f->s, object), 0);
        }
    }
    /* No lost heap is anybody's again. */
    heap *fresh[3];
    for (size_t i = 0; i < 3; i++) {
        fresh[i] = heap_of(f->s);
        for (size_t k = 0; k < WORKERS; k++)
            CHECK(fresh[i] != f->workers[k].h);
        CHECK(fresh[i] != f->mine && fresh[i] != f->second);
        check_audit(fresh[i]);
        work_alone(fresh[i], 50 + (uint64_t)i);
        check_audit(fresh[i]);
    }
    heap_abandon(fresh[0]);
    for (int i = 0; i < 20; i++)
        heap_tick(f->mine);
    heap_trim(f->mine);
    heap_trim(f->second);
    CHECK(space_statistics(f->s).heaps >= WORKERS + 2);
    check_audit(f->mine);
    check_audit(f->second);
    /* And it may fork itself. */
    space_fork_prepare(f->s);
    pid_t grandchild = fork();
    if (grandchild == 0) {
        space_fork_child(f->s, (heap *const[]){f->mine}, 1);
        work_alone(f->mine, 99);
        check_audit(f->mine);
        fflush(NULL);
        _exit(atomic_load(&check_failures) != 0);
    }
    space_fork_parent(f->s);
    int status = 0;
    CHECK(grandchild > 0 && waitpid(grandchild, &status, 0) == grandchild && status == 0);
    work_alone(f->second, 7);
    check_audit(f->second);
    fflush(NULL);
    return atomic_load(&check_failures) != 0;
}

static void forks_amid_the_work_of_others(void)
{
    check_seed = 81;
    static family f;
    static atomic_bool is_over;
    f.s = space_new(512 * (size_t)MIB, 2, 5);
    f.mine = heap_of(f.s);
    f.second = heap_of(f.s);
    fill(f.mine, f.old, PUBLISHED, 1000);
    fill(f.second, f.second_old, PUBLISHED, 2000);
    pthread_t threads[WORKERS];
    for (size_t k = 0; k < WORKERS; k++) {
        worker *w = &f.workers[k];
        w->s = f.s;
        w->h = heap_of(f.s);
        w->seed = check_seed * 100 + k;
        w->is_over = &is_over;
        fill(w->h, w->published, PUBLISHED, w->seed);
        threads[k] = start(run_worker, w);
    }
    int rounds = UNDER_TSAN || UNDER_ASAN ? 12 : 60;
    for (int round = 0; round < rounds; round++) {
        size_t steps = atomic_load(&f.workers[round % WORKERS].steps);
        while (atomic_load(&f.workers[round % WORKERS].steps) == steps)
            sched_yield();
        work_alone(f.mine, 200 + (uint64_t)round);
        fflush(NULL);
        space_fork_prepare(f.s);
        pid_t pid = fork();
        if (pid == 0)
            _exit(child(&f, round));
        space_fork_parent(f.s);
        REQUIRE(pid > 0);
        int status = 0;
        REQUIRE(waitpid(pid, &status, 0) == pid);
        if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0))
            printf("round %d: status 0x%x\n", round, (unsigned)status);
        check_audit(f.mine);
        check_filled(f.s, f.old, PUBLISHED, 1000);
    }
    atomic_store(&is_over, true);
    for (size_t k = 0; k < WORKERS; k++) {
        pthread_join(threads[k], NULL);
        check_filled(f.s, f.workers[k].published, PUBLISHED, f.workers[k].seed);
        for (size_t i = 0; i < PUBLISHED; i++)
            CHECK_OK(heap_free(f.mine, f.workers[k].published[i]));
        check_audit(f.workers[k].h);
        heap_trim(f.workers[k].h);
    }
    for (size_t i = 0; i < PUBLISHED; i++) {
        CHECK_OK(heap_free(f.mine, f.old[i]));
        CHECK_OK(heap_free(f.mine, f.second_old[i]));
    }
    size_t abandoned = space_statistics(f.s).abandoned_heaps;
    CHECK(abandoned <= 2 * (WORKERS + 1)); /* one that is being tended is not there for who needs a heap just then */
    for (size_t i = 0; i < abandoned; i++)
        heap_trim(heap_of(f.s));
    heap_trim(f.second);
    heap_trim(f.mine);
    CHECK_HEAP(f.mine, 0);
    CHECK_EQUAL(space_statistics(f.s).mapped_bytes, 0);
    space_destroy(f.s);
}

/* An abandoned heap is not lost: the child adopts it with its objects. */
static void an_abandoned_heap_is_the_childs_too(void)
{
    space *s = space_new(RESERVE_LEAST, 1, 1000);
    heap *mine = heap_of(s), *other = heap_of(s);
    char *objects[PUBLISHED];
    fill(other, objects, PUBLISHED, 5);
    heap_abandon(other);
    fflush(NULL);
    space_fork_prepare(s);
    pid_t pid = fork();
    if (pid == 0) {
        space_fork_child(s, &mine, 1);
        atomic_store(&check_failures, 0);
        CHECK_POINTER(heap_open(s, NULL), other);
        check_filled(s, objects, PUBLISHED, 5);
        for (size_t i = 0; i < PUBLISHED; i++)
            CHECK_OK(heap_free(other, objects[i]));
        CHECK_HEAP(other, 0);
        heap_trim(other);
        heap_trim(mine);
        CHECK_EQUAL(space_statistics(s).mapped_bytes, 0);
        space_destroy(s);
        fflush(NULL);
        _exit(atomic_load(&check_failures) != 0);
    }
    space_fork_parent(s);
    int status = 0;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    check_filled(s, objects, PUBLISHED, 5);
    CHECK_HEAP(mine, PUBLISHED);
    space_destroy(s);
}

enum { SHARED = 20000, SHARED_BYTES = 100, FRESH_BYTES = 32 * MIB };

/* In the child: how many of `count` more objects lie on a page that was there before. */
static size_t count_in_old(heap *h, const bool *is_old_unit, size_t count)
{
    size_t in_old = 0;
    for (size_t i = 0; i < count; i++) {
        char *object = heap_allocate(h, SHARED_BYTES);
        REQUIRE(object != NULL);
        in_old += is_old_unit[((uintptr_t)object - h->view.base) / ARENA_UNIT_BYTES];
    }
    return in_old;
}

/* A page with holes that a child fills is copied: it takes fresh ones, but not for ever. */
static int fill_no_holes(heap *h, const bool *is_old_unit, size_t holes)
{
    size_t capacity = HEAP_PAGE_BYTES / SHARED_BYTES;
    CHECK(count_in_old(h, is_old_unit, holes / 2) <= capacity); /* what was current */
    for (int round = 0; round < 40; round++) {                  /* what it drops serves it again */
        char *objects[1000];
        for (size_t i = 0; i < 1000; i++) {
            REQUIRE((objects[i] = heap_allocate(h, SHARED_BYTES)) != NULL);
            CHECK(!is_old_unit[((uintptr_t)objects[i] - h->view.base) / ARENA_UNIT_BYTES]);
        }
        for (size_t i = 0; i < 1000; i++)
            CHECK_OK(heap_free(h, objects[i]));
        CHECK_POINTER(heap_audit(h), NULL);
    }
    size_t all = FRESH_BYTES / SHARED_BYTES + holes;
    CHECK(count_in_old(h, is_old_unit, all) >= holes - 2 * capacity);
    CHECK_POINTER(heap_audit(h), NULL);
    return atomic_load(&check_failures) != 0;
}

static void a_child_spares_what_it_shares(void)
{
    space *s = space_new(256 * (size_t)MIB, 1, 1000);
    heap *h = heap_open(s, NULL);
    static char *objects[SHARED];
    static bool is_old_unit[256 * (size_t)MIB / ARENA_UNIT_BYTES];
    REQUIRE(h != NULL);
    for (size_t i = 0; i < SHARED; i++) {
        REQUIRE((objects[i] = heap_allocate(h, SHARED_BYTES)) != NULL);
        is_old_unit[((uintptr_t)objects[i] - h->view.base) / ARENA_UNIT_BYTES] = true;
    }
    for (size_t i = 0; i < SHARED; i += 2)
        CHECK_OK(heap_free(h, objects[i]));
    for (int generation = 0; generation < 2; generation++) { /* also of a child */
        fflush(NULL);
        space_fork_prepare(s);
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child > 0) {
            space_fork_parent(s);
            int status;
            REQUIRE(waitpid(child, &status, 0) == child);
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            if (generation == 1)
                _exit(atomic_load(&check_failures) != 0);
            CHECK(count_in_old(h, is_old_unit, SHARED / 4) >= SHARED / 4 - 2 * HEAP_PAGE_BYTES / SHARED_BYTES);
            space_destroy(s);
            return;
        }
        heap *const kept[] = {h};
        space_fork_child(s, kept, 1);
        if (generation == 1)
            _exit(fill_no_holes(h, is_old_unit, SHARED / 2));
    }
}

/* A free as far as a thread came with it: the bit is set, and the summary knows, but not the owner; or not even
 * that. */
static void free_halfway(space *s, const char *object, bool is_summarized)
{
    slab *found = space_slab_at(s, (uintptr_t)object);
    const slab_geometry *g = &found->sc->geometry;
    size_t index = sc_slot_at(g, (uintptr_t)object - slab_page(found));
    if (is_summarized)
        CHECK_EQUAL(bitset_share(&g->shape, slab_remote(found, g), index), BITSET_BEGAN);
    else
        atomic_fetch_or(&slab_remote(found, g)[index / WORD_BITS], word_bit(index));
}

/* Who was in the midst of a free is not there in the child: what he freed is found all the same, and so is what others
 * free beside it. */
static void frees_that_the_fork_cut_short_are_not_stranded(void)
{
    enum { COUNT = 120, BYTES = 512, WAYS = 4 };
    space *s = space_new(RESERVE_LEAST, 1, 1000);
    heap *mine = heap_of(s), *other = heap_of(s);
    static char *objects[2][WAYS][COUNT];
    for (size_t i = 0; i < 2 * WAYS * COUNT; i++) {
        heap *h = i / (WAYS * COUNT) == 0 ? mine : other;
        size_t way = i / COUNT % WAYS;
        REQUIRE((objects[i / (WAYS * COUNT)][way][i % COUNT] = heap_allocate(h, (size_t)BYTES << way)) != NULL);
    }
    heap_abandon(other);
    for (size_t k = 0; k < 2; k++) {
        free_halfway(s, objects[k][0][0], false);
        free_halfway(s, objects[k][1][0], true);
        CHECK_OK(heap_free_remote(s, objects[k][2][0])); /* of way 3 nothing was freed */
    }
    fflush(NULL);
    space_fork_prepare(s);
    pid_t pid = fork();
    if (pid == 0) {
        space_fork_child(s, &mine, 1);
        atomic_store(&check_failures, 0);
        for (size_t k = 0; k < 2; k++)
            for (size_t i = 0; i < WAYS * COUNT; i++)
                CHECK_EQUAL(heap_free_remote(s, objects[k][i / COUNT][i % COUNT]),
                            i % COUNT == 0 && i / COUNT < 3 ? SLABMALLOC_FREE_DOUBLE : SLABMALLOC_OK);
        CHECK_POINTER(heap_open(s, NULL), other);
        heap_trim(mine);
        heap_trim(other);
        CHECK_HEAP(mine, 0);
        CHECK_HEAP(other, 0);
        CHECK_EQUAL(space_statistics(s).mapped_bytes, 0);
        fflush(NULL);
        _exit(atomic_load(&check_failures) != 0);
    }
    space_fork_parent(s);
    int status = 0;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    space_destroy(s);
}

int main(void)
{
    alarm(300);
    RUN(frees_that_the_fork_cut_short_are_not_stranded);
    RUN(an_abandoned_heap_is_the_childs_too);
    RUN(a_child_spares_what_it_shares);
    RUN(forks_amid_the_work_of_others);
    return check_finish();
}
