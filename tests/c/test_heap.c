/* SPDX-License-Identifier: MIT
 *
 * The process heap: objects without layouts, errors, memory that goes back, frees by other threads.
 */
#include "space_fixture.h"

static void every_size_is_served(void)
{
    heap *h = heap_new(0);
    static void *objects[HEAP_SMALL_BYTES + 1];
    size_t live_bytes = 0;
    for (size_t bytes = 0; bytes <= HEAP_SMALL_BYTES; bytes++) {
        char *object = objects[bytes] = heap_allocate(h, bytes);
        REQUIRE(object != NULL);
        CHECK_EQUAL((uintptr_t)object % 16, 0);
        size_t usable = heap_usable_bytes(h->space, object);
        CHECK(usable >= bytes && usable > 0);
        CHECK(usable <= 16 || (usable - bytes) * 8 <= usable || usable - bytes < 16); /* at most an eighth is lost */
        CHECK(heap_owns(h->space, object));
        memset(object, (int)(bytes % 251), usable);
        live_bytes += usable;
    }
    CHECK_HEAP(h, HEAP_SMALL_BYTES + 1);
    CHECK_EQUAL(space_statistics(h->space).live_bytes, live_bytes);
    for (size_t bytes = HEAP_SMALL_BYTES + 1; bytes-- > 0;) {
        const unsigned char *object = objects[bytes];
        size_t usable = heap_usable_bytes(h->space, object);
        CHECK(object[0] == bytes % 251 && object[usable - 1] == bytes % 251);
        CHECK_OK(heap_free(h, objects[bytes]));
    }
    CHECK_HEAP(h, 0);
    CHECK_POINTER(heap_allocate(h, SIZE_MAX), NULL);
    heap_destroy(h);
}

static slabmalloc_status free_as_owner(heap *h, void *object) { return heap_free(h, object); }
static slabmalloc_status free_as_another(heap *h, void *object) { return heap_free_remote(h->space, object); }

static void wrong_frees_are_told(void)
{
    heap *h = heap_new(RESERVE_LEAST), *other = heap_new(RESERVE_LEAST);
    char *object = heap_allocate(h, 100), *foreign = heap_allocate(other, 100), *last = object;
    size_t usable = heap_usable_bytes(h->space, object);
    for (int i = 0; i < 3; i++)
        last = heap_allocate(h, 100);
    int on_stack;
    slabmalloc_status (*const frees[])(heap *, void *) = {free_as_owner, free_as_another};
    for (int f = 0; f < 2; f++) {
        CHECK_STATUS(frees[f](h, NULL), FREE_FOREIGN);
        CHECK_STATUS(frees[f](h, foreign), FREE_FOREIGN);
        CHECK_STATUS(frees[f](h, &on_stack), FREE_FOREIGN);
        CHECK_STATUS(frees[f](h, (void *)UINTPTR_MAX), FREE_FOREIGN);
        CHECK_STATUS(frees[f](h, (void *)1), FREE_FOREIGN);
        for (size_t offset = 1; offset < usable; offset++)
            CHECK_STATUS(frees[f](h, object + offset), FREE_INTERIOR);
        /* In the range, but on a page that was never used. */
        CHECK_STATUS(frees[f](h, (char *)((uintptr_t)object & ~(HEAP_PAGE_BYTES - 1)) + 10 * HEAP_PAGE_BYTES),
                     FREE_FOREIGN);
    }
    CHECK(!heap_owns(h->space, foreign) && !heap_owns(h->space, NULL) && !heap_owns(h->space, &on_stack) &&
          !heap_owns(h->space, (void *)UINTPTR_MAX));
    CHECK_EQUAL(heap_usable_bytes(h->space, NULL), 0);
    CHECK_EQUAL(heap_usable_bytes(h->space, foreign), 0);
    CHECK_EQUAL(heap_usable_bytes(h->space, object + 16), 0);
    CHECK_EQUAL(heap_usable_bytes(h->space, object + 1), 0);
    CHECK_HEAP(h, 4);
    CHECK_OK(heap_free(h, object));
    CHECK_STATUS(heap_free(h, object), FREE_DOUBLE);
    CHECK_STATUS(heap_free_remote(h->space, object), FREE_DOUBLE);
    CHECK_EQUAL(heap_usable_bytes(h->space, object), 0);
    CHECK_OK(heap_free_remote(h->space, last));
    CHECK_STATUS(heap_free_remote(h->space, last), FREE_DOUBLE);
    CHECK_STATUS(heap_free(h, last), FREE_DOUBLE);
    CHECK_EQUAL(heap_usable_bytes(h->space, last), 0); /* not live, though nobody has collected it */
    CHECK_HEAP(h, 2);
    CHECK_STATUS(heap_free(h, last), FREE_DOUBLE);
    CHECK_HEAP(h, 2);
    CHECK_HEAP(other, 1);
    heap_destroy(h);
    heap_destroy(other);
}

/* Slots that were never handed out, all those around a live object, are nobody's to free or measure. */
static void slots_that_were_never_live(void)
{
    heap *h = heap_new(RESERVE_LEAST);
    char *object = heap_allocate(h, 1024), *page = (char *)((uintptr_t)object & ~(HEAP_PAGE_BYTES - 1));
    size_t usable = heap_usable_bytes(h->space, object), first = (size_t)(object - page) % usable;
    for (size_t offset = first; offset + usable <= HEAP_PAGE_BYTES; offset += usable) {
        if (page + offset == object)
            continue;
        CHECK_EQUAL(heap_usable_bytes(h->space, page + offset), 0);
        CHECK(!heap_inspect(h->space, page + offset).is_live);
        CHECK_STATUS(heap_free(h, page + offset), FREE_DOUBLE);
        CHECK_STATUS(heap_free_remote(h->space, page + offset), FREE_DOUBLE);
    }
    CHECK(heap_inspect(h->space, object).is_live);
    CHECK_HEAP(h, 1);
    heap_destroy(h);
}

/* Random work against a shadow table of contents. */
static void random_work_keeps_contents(void)
{
    enum { LIVE = 4000, STEPS = 60000 };
    static struct {
        unsigned char *object;
        size_t bytes;
    } live[LIVE];
    check_seed = 8;
    random_source source = random_from(check_seed);
    heap *h = heap_new(256 * (size_t)MIB);
    size_t count = 0;
    for (int step = 0; step < STEPS; step++) {
        size_t bias = step / 10000 % 2 == 0 ? 70 : 30;
        if (count == 0 || (count < LIVE && random_below(&source, 100) < bias)) {
            size_t bytes = random_below(&source, random_below(&source, 8) == 0 ? HEAP_SMALL_BYTES + 1 : 300);
            unsigned char *object = heap_allocate(h, bytes);
            REQUIRE(object != NULL);
            bytes = heap_usable_bytes(h->space, object);
            memset(object, step % 255, bytes);
            live[count].object = object;
            live[count++].bytes = bytes;
        } else {
            size_t i = random_below(&source, count), bytes = live[i].bytes;
            CHECK_EQUAL(heap_usable_bytes(h->space, live[i].object), bytes);
            for (size_t b = 1; b < bytes; b++)
                if (!CHECK_EQUAL(live[i].object[b], live[i].object[0]))
                    break;
            CHECK_OK(random_below(&source, 4) == 0 ? heap_free_remote(h->space, live[i].object)
                                                   : heap_free(h, live[i].object));
            live[i] = live[--count];
        }
        if (step % 100 == 0)
            heap_tick(h);
        if (step % 5000 == 0)
            heap_trim(h);
        if (step % 1000 == 0)
            CHECK_HEAP(h, count);
    }
    heap_trim(h);
    for (size_t i = 0; i < count; i++) {
        for (size_t b = 1; b < live[i].bytes; b++)
            if (!CHECK_EQUAL(live[i].object[b], live[i].object[0]))
                break;
        CHECK_OK(heap_free(h, live[i].object));
    }
    CHECK_HEAP(h, 0);
    heap_trim(h);
    CHECK_EQUAL(space_statistics(h->space).mapped_bytes, 0);
    heap_destroy(h);
}

/* Physical memory of a range, by the kernel's account. */
static size_t resident_bytes(void *begin, size_t bytes)
{
    size_t os_page = (size_t)sysconf(_SC_PAGESIZE), pages = bytes / os_page, count = 0;
    unsigned char *vector = malloc(pages);
    REQUIRE(vector != NULL && mincore(begin, bytes, vector) == 0);
    for (size_t i = 0; i < pages; i++)
        count += vector[i] & 1;
    free(vector);
    return count * os_page;
}

static void trim_gives_memory_back(void)
{
    enum {
        COUNT = 200000,
        BYTES = 96,
        KEPT = 400
    }; /* one in KEPT survives: 38 KB apart, most OS pages are free of them */
    heap *h = heap_new(256 * (size_t)MIB);
    static char *objects[COUNT];
    char *begin = NULL;
    size_t range = 0, live = COUNT / KEPT;
    /* The second time the slabs that were purged in part are filled again, and must be purged again. */
    for (int round = 0; round < 2; round++) {
        char *low = NULL, *high = NULL;
        for (size_t i = 0; i < COUNT; i++) {
            if (round == 0 || i % KEPT != 0) {
                objects[i] = heap_allocate(h, BYTES);
                REQUIRE(objects[i] != NULL);
                memset(objects[i], (int)(i % 255), BYTES);
            }
            low = low == NULL || objects[i] < low ? objects[i] : low;
            high = objects[i] > high ? objects[i] : high;
        }
        begin = (char *)((uintptr_t)low & ~(HEAP_PAGE_BYTES - 1));
        range = (size_t)(high - begin) / HEAP_PAGE_BYTES * HEAP_PAGE_BYTES + HEAP_PAGE_BYTES;
        size_t before = resident_bytes(begin, range);
        CHECK(before >= (size_t)COUNT * BYTES);
        CHECK(heap_trim(h) <= before / 10); /* there is nothing to give */
        for (size_t i = 0; i < COUNT; i++)
            if (i % KEPT != 0)
                CHECK_OK(heap_free(h, objects[i]));
        uint64_t given_before = space_statistics(h->space).given_back_bytes;
        size_t given = heap_trim(h), after = resident_bytes(begin, range);
        CHECK_HEAP(h, live);
        CHECK_EQUAL(space_statistics(h->space).given_back_bytes, given_before + given);
        CHECK(after <= before / 4);
        printf("trim: %zu of %zu resident KiB left, %zu objects of %d bytes live\n", after / 1024, before / 1024, live,
               BYTES);
    }
    for (size_t i = 0; i < COUNT; i += KEPT) {
        for (size_t b = 0; b < BYTES; b++)
            if (!CHECK_EQUAL((unsigned char)objects[i][b], i % 255))
                break;
        CHECK_OK(heap_free(h, objects[i]));
    }
    heap_trim(h);
    CHECK_HEAP(h, 0);
    CHECK_EQUAL(space_statistics(h->space).mapped_bytes, 0);
    CHECK_EQUAL(space_statistics(h->space).resting_bytes, 0);
    CHECK_EQUAL(resident_bytes(begin, range), 0);
    CHECK_EQUAL(heap_trim(h), 0);
    /* And it serves again. */
    for (size_t i = 0; i < 1000; i++)
        memset(heap_allocate(h, BYTES), 1, BYTES);
    CHECK_HEAP(h, 1000);
    heap_destroy(h);
}

static void the_range_is_used_up_and_comes_back(void)
{
    heap *h = heap_new(RESERVE_LEAST);
    size_t reserved = space_statistics(h->space).reserved_bytes, limit = reserved / HEAP_SMALL_BYTES + 1, count = 0;
    CHECK_EQUAL(reserved, RESERVE_LEAST);
    void **objects = calloc(limit, sizeof *objects);
    REQUIRE(objects != NULL);
    while (count < limit && (objects[count] = heap_allocate(h, HEAP_SMALL_BYTES)) != NULL)
        count++;
    CHECK_EQUAL(count, reserved / HEAP_PAGE_BYTES * (HEAP_PAGE_BYTES / HEAP_SMALL_BYTES)); /* meta-data lies apart */
    CHECK_POINTER(heap_allocate(h, HEAP_SMALL_BYTES), NULL);
    CHECK_POINTER(heap_allocate(h, 16), NULL);
    CHECK_HEAP(h, count);
    CHECK_EQUAL(space_statistics(h->space).mapped_bytes, reserved);
    /* One page's objects go: another class gets the page. */
    for (size_t i = 0; i < count; i++)
        if ((uintptr_t)objects[i] / HEAP_PAGE_BYTES == (uintptr_t)objects[count / 2] / HEAP_PAGE_BYTES &&
            i != count / 2) {
            CHECK_OK(heap_free(h, objects[i]));
            objects[i] = NULL;
        }
    CHECK_OK(heap_free(h, objects[count / 2]));
    objects[count / 2] = NULL;
    heap_trim(h);
    void *small = heap_allocate(h, 16);
    CHECK(small != NULL);
    CHECK_OK(heap_free(h, small));
    size_t left = 0;
    for (size_t i = 0; i < count; i++)
        if (objects[i] != NULL) {
            CHECK_OK(heap_free(h, objects[i]));
            left++;
        }
    CHECK_EQUAL(left, count - HEAP_PAGE_BYTES / HEAP_SMALL_BYTES);
    CHECK_HEAP(h, 0);
    heap_destroy(h);
    free(objects);
}

static void ticks_alone_give_memory_back(void)
{
    enum { COUNT = 100000, BYTES = 64 };
    heap *h = heap_new(RESERVE_LEAST);
    h->space->options.decay_ms = 0;
    static char *objects[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        REQUIRE((objects[i] = heap_allocate(h, BYTES)) != NULL);
        objects[i][0] = 1;
    }
    for (size_t i = 0; i < COUNT; i++)
        if (i % 1000 != 0)
            CHECK_OK(heap_free(h, objects[i]));
    for (int moment = 0; moment < 10; moment++) { /* a round of visits each, the second of which purges */
        for (int i = 0; i < 100; i++)
            heap_tick(h);
        sleep_ms(5);
    }
    /* All of it is gone: once more gives nothing. */
    uint64_t given_back_bytes = space_statistics(h->space).given_back_bytes;
    heap_trim(h);
    CHECK(space_statistics(h->space).given_back_bytes - given_back_bytes < (size_t)COUNT * BYTES / 50);
    given_back_bytes = space_statistics(h->space).given_back_bytes;
    CHECK_EQUAL(heap_trim(h), 0);
    CHECK_EQUAL(space_statistics(h->space).given_back_bytes, given_back_bytes);
    CHECK(space_statistics(h->space).given_back_bytes > (size_t)COUNT * BYTES / 2);
    CHECK_HEAP(h, COUNT / 1000);
    heap_destroy(h);
}

/* ---- threads: one owner, frees from others ---- */

enum { FREERS = 2, RING = 1024 };

typedef struct freer {
    heap *h;
    void *_Atomic *ring;
    size_t objects;
} freer;

static void *run_freer(void *context)
{
    freer *f = context;
    for (size_t i = 0; i < f->objects; i++) {
        unsigned char *object;
        while ((object = atomic_exchange_explicit(&f->ring[i % RING], NULL, memory_order_acquire)) == NULL)
            sched_yield();
        CHECK(heap_owns(f->h->space, object));
        CHECK_EQUAL(object[0], object[15]);
        memset(object, 0xDD, 16);
        CHECK_OK(heap_free_remote(f->h->space, object));
    }
    return NULL;
}

static void others_free_while_the_owner_works(void)
{
    size_t objects = UNDER_TSAN ? 15000 : 100000, sent[FREERS] = {0};
    check_seed = 4;
    random_source source = random_from(check_seed);
    heap *h = heap_new(RESERVE_LEAST);
    freer freers[FREERS];
    pthread_t threads[FREERS];
    static void *_Atomic rings[FREERS][RING];
    for (size_t i = 0; i < FREERS; i++) {
        freers[i] = (freer){h, rings[i], objects};
        REQUIRE(pthread_create(&threads[i], NULL, run_freer, &freers[i]) == 0);
    }
    for (size_t done = 0; done < objects * FREERS;) {
        size_t to = random_below(&source, FREERS);
        if (sent[to] == objects || atomic_load_explicit(&rings[to][sent[to] % RING], memory_order_acquire) != NULL) {
            sched_yield();
            continue;
        }
        size_t bytes = 16 + random_below(&source, random_below(&source, 50) == 0 ? 8000 : 200);
        void *object = heap_allocate(h, bytes), *own = heap_allocate(h, bytes);
        REQUIRE(object != NULL && own != NULL);
        memset(object, (int)(done % 255), bytes);
        memset(own, 1, bytes);
        atomic_store_explicit(&rings[to][sent[to]++ % RING], object, memory_order_release);
        CHECK_OK(heap_free(h, own));
        done++;
        if (done % 256 == 0)
            heap_tick(h);
        if (done % 10000 == 0) {
            heap_trim(h);
            const char *message = heap_audit(h);
            CHECK(message == NULL);
        }
    }
    for (size_t i = 0; i < FREERS; i++)
        pthread_join(threads[i], NULL);
    CHECK_HEAP(h, 0);
    slabmalloc_zone_collect(h->view.zone);
    CHECK_EQUAL(space_statistics(h->space).remote_frees, objects * FREERS);
    heap_trim(h);
    CHECK_EQUAL(space_statistics(h->space).mapped_bytes, 0);
    heap_destroy(h);
}

/* The range is used up, and others have freed all: what waits for the owner is looked for before he is refused. */
static void a_request_gets_what_others_freed(void)
{
    enum { MOST = 2000 };
    static const size_t kinds[] = {100, 100000};
    for (size_t k = 0; k < 2; k++) {
        space_options options = space_options_default();
        options.reserve_bytes = 8 * MIB;
        options.max_ranges = 1;
        space *s = space_create(&options);
        heap *h = heap_of(s);
        void *objects[MOST];
        size_t count = 0;
        while (count < MOST && (objects[count] = heap_allocate(h, 8000)) != NULL)
            count++;
        CHECK(count > 900 && count < MOST);
        CHECK_POINTER(heap_allocate(h, kinds[k]), NULL);
        for (size_t i = 0; i < count; i++)
            CHECK_OK(heap_free_remote(s, objects[i]));
        CHECK(heap_allocate(h, kinds[k]) != NULL);
        CHECK_HEAP(h, 1);
        space_destroy(s);
    }
}

int main(void)
{
    RUN(every_size_is_served);
    RUN(wrong_frees_are_told);
    RUN(slots_that_were_never_live);
    RUN(random_work_keeps_contents);
    RUN(trim_gives_memory_back);
    RUN(the_range_is_used_up_and_comes_back);
    RUN(ticks_alone_give_memory_back);
    RUN(others_free_while_the_owner_works);
    RUN(a_request_gets_what_others_freed);
    return check_finish();
}
