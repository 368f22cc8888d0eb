/* SPDX-License-Identifier: MIT
 *
 * Hardened heaps: random operations against a model, and each promise about blocks in slabs with what keeps it and what
 * breaks it. A free that is wrong changes nothing, so that the right one works afterwards.
 */
#include "hardened_fixture.h"

#include "heap/quarantine.h"
#include "zone/remote.h"

/* ---- the model: contents are stamped, what is served is zero, and as long as was asked for ------------------- */

enum { LIVE = 200, MOST = 600 * 1024 };

typedef struct live_block {
    char *at;
    size_t bytes;
    uint64_t tag;
} live_block;

static void check_served(heap *h, live_block *b, char *at, size_t bytes, size_t kept, uint64_t tag)
{
    REQUIRE(at != NULL);
    CHECK(all_zero(at + kept, bytes - kept));
    CHECK_EQUAL(heap_usable_bytes(h->space, at), bytes);
    *b = (live_block){at, bytes, tag};
    stamp(at, bytes, tag);
}

static void make(heap *h, live_block *b, random_source *source, uint64_t tag)
{
    size_t bytes = any_size(source, MOST) + 1, align = (size_t)1 << random_below(source, 14);
    switch (random_below(source, 3)) {
    case 0: check_served(h, b, heap_allocate(h, bytes), bytes, 0, tag); break;
    case 1: check_served(h, b, heap_allocate_zeroed(h, bytes), bytes, 0, tag); break;
    default:
        check_served(h, b, heap_allocate_aligned(h, bytes, align), bytes, 0, tag);
        CHECK_EQUAL((uintptr_t)b->at % align, 0);
    }
}

static void resize(heap *h, live_block *b, random_source *source, uint64_t tag)
{
    slabmalloc_status status = SLABMALLOC_OK;
    size_t bytes = random_below(source, 2) == 0 ? any_size(source, MOST) + 1 : b->bytes + random_below(source, 40) + 1;
    size_t kept = bytes < b->bytes ? bytes : b->bytes;
    char *at = heap_reallocate(h, b->at, bytes, &status);
    CHECK_OK(status);
    CHECK(is_stamped(at, kept, b->tag));
    check_served(h, b, at, bytes, kept, tag);
}

static void random_operations(void)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        check_seed = seed;
        random_source source = random_from(seed);
        space *s = hardened_space_new(0);
        heap *heaps[] = {heap_of(s), heap_of(s)};
        live_block blocks[LIVE] = {{.at = NULL}};
        size_t live = 0, steps = setting("SLABMALLOC_MODEL_STEPS", 4000);
        for (size_t step = 0; step < steps; step++) {
            heap *h = heaps[random_below(&source, 2)];
            live_block *b = &blocks[random_below(&source, LIVE)];
            size_t what = random_below(&source, 100);
            if (b->at == NULL) {
                make(h, b, &source, seed << 32 | step);
                live++;
            } else if (what < 40) {
                resize(h, b, &source, seed << 32 | step);
            } else {
                CHECK(is_stamped(b->at, b->bytes, b->tag));
                CHECK_OK(what < 50 ? heap_free_remote(s, b->at) : heap_free(h, b->at));
                b->at = NULL;
                live--;
            }
            if (what == 99)
                heap_trim(h);
            else if (what > 90)
                heap_tick(h);
            CHECK_HEAP(heaps[0], live);
            CHECK_HEAP(heaps[1], live);
        }
        for (size_t i = 0; i < LIVE; i++)
            CHECK(blocks[i].at == NULL || heap_free(heaps[0], blocks[i].at) == SLABMALLOC_OK);
        CHECK_HEAP(heaps[0], 0);
        CHECK_EQUAL(damages_of(s), 0);
        space_destroy(s);
    }
}

/* ---- freed twice, or not at its beginning ------------------------------------------------------------------- */

static void freed_twice(void)
{
    space *s = hardened_space_new(0);
    heap *h = heap_of(s), *other = heap_of(s);
    static const size_t sizes[] = {1, 24, 100, 1000, 5000, 40000, 130000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *block = block_among_others(h, sizes[i]);
        CHECK_OK(heap_free(h, block));
        CHECK_STATUS(heap_free(h, block), FREE_DOUBLE);
        CHECK_STATUS(heap_free(other, block), FREE_DOUBLE);
        CHECK_STATUS(heap_free_remote(s, block), FREE_DOUBLE);
        slabmalloc_status status;
        CHECK_POINTER(heap_reallocate(h, block, sizes[i] + 1, &status), NULL);
        CHECK_STATUS(status, FREE_DOUBLE);
        CHECK_EQUAL(heap_usable_bytes(s, block), 0);
        CHECK(!heap_inspect(s, block).is_live);
        churn(h, sizes[i]); /* it leaves the quarantine, and nobody has it now */
        CHECK_STATUS(heap_free(h, block), FREE_DOUBLE);
        block = block_among_others(h, sizes[i]);
        CHECK_OK(heap_free_remote(s, block)); /* to its slab at once */
        CHECK_STATUS(heap_free(h, block), FREE_DOUBLE);
        CHECK_STATUS(heap_free_remote(s, block), FREE_DOUBLE);
    }
    CHECK_EQUAL(damages_of(s), 0);
    CHECK_HEAP(h, 19 * 2 * sizeof sizes / sizeof *sizes);
    space_destroy(s);
}

static void freed_where_no_block_begins(void)
{
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    char *block = heap_allocate(h, 1000), *large = heap_allocate(h, MIB), local;
    CHECK_STATUS(heap_free(h, block + 16), FREE_INTERIOR);
    CHECK_STATUS(heap_free(h, block + 1), FREE_INTERIOR);
    CHECK_STATUS(heap_free(h, large + 4096), FREE_FOREIGN);
    CHECK_STATUS(heap_free(h, &local), FREE_FOREIGN);
    CHECK_STATUS(heap_free(h, (void *)(h->view.base + ((size_t)1 << 35))), FREE_FOREIGN);
    CHECK_OK(heap_free(h, block));
    CHECK_OK(heap_free(h, large));
    CHECK_STATUS(heap_free(h, large), FREE_FOREIGN);
    CHECK_HEAP(h, 0);
    space_destroy(s);
}

typedef struct race {
    heap *h;
    char *block;
    atomic_uint *ready;
    slabmalloc_status outcome;
} race;

static void *free_at_once(void *context)
{
    race *r = context;
    atomic_fetch_add(r->ready, 1);
    while (atomic_load(r->ready) < 2)
        ;
    r->outcome = heap_free(r->h, r->block);
    return NULL;
}

/* A block of `maker` is freed by two threads at once; do both succeed? */
static bool is_freed_by_both(heap *maker, heap *one, heap *other)
{
    atomic_uint ready = 0;
    char *block = block_among_others(maker, 200);
    race first = {.h = one, .block = block, .ready = &ready}, second = {.h = other, .block = block, .ready = &ready};
    pthread_t thread = start(free_at_once, &second);
    free_at_once(&first);
    pthread_join(thread, NULL);
    CHECK(first.outcome == SLABMALLOC_OK || second.outcome == SLABMALLOC_OK);
    if (first.outcome != SLABMALLOC_OK)
        CHECK_STATUS(first.outcome, FREE_DOUBLE);
    if (second.outcome != SLABMALLOC_OK)
        CHECK_STATUS(second.outcome, FREE_DOUBLE);
    return first.outcome == SLABMALLOC_OK && second.outcome == SLABMALLOC_OK;
}

/* Of two threads that free a block of a third one's at once exactly one succeeds. If it is one's own both may: then it
 * is damage when it leaves one quarantine or the other. */
static void freed_by_two_threads_at_once(void)
{
    if (UNDER_TSAN) /* to free a block twice is a race, and said to be one */
        return;
    space *s = hardened_space_new(0);
    heap *maker = heap_of(s), *one = heap_of(s), *other = heap_of(s);
    for (size_t i = 0; i < amount(1000); i++)
        CHECK(!is_freed_by_both(maker, one, other));
    CHECK_EQUAL(damages_of(s), 0);
    for (size_t i = 0; i < amount(1000); i++) {
        uint64_t before = damages_of(s);
        if (!is_freed_by_both(maker, maker, other))
            continue;
        for (int k = 0; k < 20 && damages_of(s) == before; k++) {
            churn(maker, 200);
            churn(other, 200);
        }
        CHECK(damages_of(s) > before);
    }
    space_destroy(s);
}

/* The same where the other's free has come as far as the slab when the owner's block leaves quarantine: it is freed
 * once, and is damage. What the other thread does in between is done here. */
static void freed_by_another_while_it_leaves_quarantine(void)
{
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    char *object = block_among_others(h, 40);
    slab *on = space_slab_at(s, (uintptr_t)object);
    hardened_class *c = &h->hardened->classes[on->sc->index];
    while (atomic_load(&c->spare) == 0) /* else it would be the spare, and in no slab */
        CHECK_OK(heap_free(h, heap_allocate(h, 40)));
    block b = {.object = (uintptr_t)object, .bytes = on->sc->geometry.object_bytes, .slab = on};
    atomic_store(seal_of(&b), seal_freed(s, seal_key(s, b.object)));
    CHECK_OK(remote_free(on->sc, on, b.object - slab_page(on)));
    quarantine_release(s, h, on, c, b.object);
    CHECK_EQUAL(damages_of(s), 1);
    CHECK_POINTER(atomic_load(&last_damaged), object);
    CHECK(!bitset_has(on->local, slab_slot_of(on, b.object).value));
    space_destroy(s);
}

/* ---- written to where nothing was asked for ------------------------------------------------------------------ */

static void check_overflow(heap *h, size_t bytes, size_t offset, char value)
{
    char *block = heap_allocate(h, bytes), kept = block[offset];
    slabmalloc_status status;
    memset(block, 0x55, bytes);
    block[offset] = value;
    if (value == kept)
        return; /* once in 128: the value is as it was */
    CHECK_STATUS(heap_free(h, block), FREE_OVERFLOWN);
    CHECK_STATUS(heap_free_remote(h->space, block), FREE_OVERFLOWN);
    CHECK_POINTER(heap_reallocate(h, block, bytes + 1, &status), NULL);
    CHECK_STATUS(status, FREE_OVERFLOWN);
    CHECK_POINTER(heap_reallocate(h, block, 4 * bytes, &status), NULL);
    CHECK_STATUS(status, FREE_OVERFLOWN);
    CHECK(is_stamped(block, 0, 0) && block[0] == 0x55 && block[bytes - 1] == 0x55);
    block[offset] = kept;
    CHECK_OK(heap_free(h, block));
}

/* One byte behind the block, whatever the slack; the end of a string too, which is 0. */
static void a_byte_behind_the_block(void)
{
    enum { SLACKS = 41, SIZE = 3000 };
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    size_t object_bytes = object_bytes_of(h, SIZE);
    for (size_t slack = 0; slack < SLACKS; slack++) {
        size_t bytes = object_bytes - HARDENED_SEAL_BYTES - slack;
        CHECK_EQUAL(object_bytes_of(h, bytes), object_bytes);
        CHECK(*(char *)heap_allocate(h, bytes) == 0);
        check_overflow(h, bytes, bytes, 0);
        check_overflow(h, bytes, bytes, 'A');
        check_overflow(h, bytes, bytes + slack / 2, 0);
        check_overflow(h, bytes, object_bytes - HARDENED_SEAL_BYTES, 0x7F);
        check_overflow(h, bytes, object_bytes - 1, 0x7F);
    }
    for (size_t bytes = 1; bytes < 300; bytes++) {
        check_overflow(h, bytes, bytes, 0);
        check_overflow(h, bytes, bytes, 'A');
    }
    static const size_t large[] = {HEAP_MEDIUM_BYTES, 200000, MIB - 8, MIB - 9, MIB - 40};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        check_overflow(h, large[i], large[i], 0);
        check_overflow(h, large[i], large[i], 'A');
    }
    CHECK_EQUAL(damages_of(s), 0);
    space_destroy(s);
}

static int by_address(const void *a, const void *b)
{
    char *const *one = a, *const *other = b;
    return *one < *other ? -1 : 1;
}

/* Two live blocks, one right behind the other. */
static void neighbours(heap *h, size_t bytes, char **one, char **next)
{
    enum { COUNT = 500 };
    char *blocks[COUNT];
    size_t object_bytes = object_bytes_of(h, bytes);
    for (int i = 0; i < COUNT; i++)
        REQUIRE((blocks[i] = heap_allocate(h, bytes)) != NULL);
    qsort(blocks, COUNT, sizeof *blocks, by_address);
    for (int i = 100; i + 1 < COUNT; i++)
        if (blocks[i] + object_bytes == blocks[i + 1]) {
            *one = blocks[i];
            *next = blocks[i + 1];
            return;
        }
    bool are_neighbours = false;
    REQUIRE(are_neighbours);
}

static void from_one_block_into_the_next(void)
{
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    for (size_t bytes = 8; bytes < 3000; bytes = bytes * 3 / 2 + 1) {
        char *one, *next, seal[HARDENED_SEAL_BYTES];
        neighbours(h, bytes, &one, &next);
        memcpy(seal, next - sizeof seal, sizeof seal);
        next[-1] ^= 1; /* an underflow of the next one's */
        CHECK_STATUS(heap_free(h, next), FREE_OVERFLOWN);
        CHECK_STATUS(heap_free_remote(s, next), FREE_OVERFLOWN);
        CHECK_STATUS(heap_free(h, one), FREE_OVERFLOWN);
        memcpy(next - sizeof seal, seal, sizeof seal);
        CHECK_OK(heap_free(h, one));
        next[-1] ^= 1; /* the one before is in quarantine */
        CHECK_STATUS(heap_free(h, next), FREE_OVERFLOWN);
        next[-1] ^= 1;
        CHECK_OK(heap_free(h, next));
        neighbours(h, bytes, &one, &next);
        memset(one, 'A', bytes);
        memset(one + bytes, 0, (size_t)(next - one) - bytes); /* the seal is as that of what is free */
        CHECK_STATUS(heap_free(h, one), FREE_OVERFLOWN);
        memset(one, 'A', (size_t)(next - one) + 1);
        CHECK_STATUS(heap_free(h, one), FREE_OVERFLOWN);
        CHECK_STATUS(heap_free(h, next), FREE_OVERFLOWN);
    }
    CHECK_EQUAL(damages_of(s), 0);
    space_destroy(s);
}

/* ---- written to after its free -------------------------------------------------------------------------------- */

static size_t free_objects_of(heap *h, const void *block)
{
    space_stats stats = space_statistics(h->space);
    size_t object_bytes = heap_inspect(h->space, block).object_bytes;
    for (int i = 0; i < SPACE_CLASSES; i++)
        if (stats.classes[i].object_bytes == object_bytes)
            return stats.classes[i].free_objects;
    return 0;
}

/* Is it found when all that is free has been served, and never served again? */
static void check_damage_is_found(heap *h, size_t bytes, const char *block)
{
    uint64_t before = damages_of(h->space);
    churn(h, bytes);
    size_t count = free_objects_of(h, block) + HARDENED_POOL_MOST;
    char **held = calloc(count, sizeof *held);
    REQUIRE(held != NULL);
    for (size_t i = 0; i < count; i++) {
        REQUIRE((held[i] = heap_allocate(h, bytes)) != NULL);
        CHECK(held[i] != block && all_zero(held[i], bytes));
    }
    CHECK_EQUAL(damages_of(h->space), before + 1);
    CHECK_POINTER(atomic_load(&last_damaged), block);
    for (size_t i = 0; i < count; i++)
        CHECK_OK(heap_free(h, held[i]));
    free(held);
}

static void written_to_after_its_free(void)
{
    static const size_t sizes[] = {8, 24, 100, 1000, 5000, 40000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        space *s = hardened_space_new(0);
        heap *h = heap_of(s);
        size_t object_bytes = object_bytes_of(h, sizes[i]), places[] = {0, sizes[i] - 1};
        for (size_t k = 0; k < (sizes[i] <= 1000 ? 2 : 1); k++) { /* what is large is not looked at everywhere */
            char *block = block_among_others(h, sizes[i]);
            CHECK_OK(heap_free(h, block));
            CHECK(all_zero(block, object_bytes - HARDENED_SEAL_BYTES)); /* nothing of what it held */
            block[places[k]] ^= 0x40;
            check_damage_is_found(h, sizes[i], block);
            CHECK_HEAP(h, (k + 1) * 19);
        }
        char *block = block_among_others(h, sizes[i]);
        CHECK_OK(heap_free_remote(s, block)); /* in no quarantine */
        block[0] = 1;
        check_damage_is_found(h, sizes[i], block);
        space_destroy(s);
    }
}

/* Where nobody looks at all of it, what has to be zero is made so. */
static void zeroed_whatever_was_written_to_it(void)
{
    enum { BYTES = 40000, COUNT = 100 };
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    char *blocks[COUNT];
    for (int i = 0; i < COUNT; i++)
        REQUIRE((blocks[i] = heap_allocate(h, BYTES)) != NULL);
    for (int i = 0; i < COUNT; i++) {
        CHECK_OK(heap_free(h, blocks[i]));
        blocks[i][5000 + i * 300] = 1;
    }
    for (int i = 0; i < 2 * COUNT; i++) {
        char *block = heap_allocate_zeroed(h, BYTES);
        REQUIRE(block != NULL);
        CHECK(all_zero(block, BYTES));
    }
    space_destroy(s);
}

/* ---- places ----------------------------------------------------------------------------------------------------- */

/* Served in order each slot would follow the one before; by chance one in 64 does. */
static void slots_are_taken_at_random(void)
{
    enum { COUNT = 10000, BYTES = 56, MOST_IN_ORDER = 1000 };
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    for (size_t align = 16; align <= 64; align *= 4) {
        size_t following = 0;
        char *last = NULL;
        for (int i = 0; i < COUNT; i++) {
            char *block = heap_allocate_aligned(h, BYTES, align);
            REQUIRE(block != NULL);
            following += last != NULL && block == last + 64;
            last = block;
        }
        CHECK(following < MOST_IN_ORDER);
    }
    space_destroy(s);
}

/* A freed block is not what the next call gets: it may be after 256 others have been freed, and one in 256 is
 * before. */
static void freed_blocks_wait(void)
{
    enum { COUNT = 10000, MOST_AT_ONCE = 200 };
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    size_t at_once = 0;
    char *last = NULL;
    for (int i = 0; i < COUNT; i++) {
        char *block = heap_allocate(h, 56);
        at_once += block == last;
        last = block;
        CHECK_OK(heap_free(h, block));
    }
    CHECK(at_once < MOST_AT_ONCE);
    space_destroy(s);
}

/* Who asks for memory gets what is kept back too, of heaps without an owner as well; what was written to is found then,
 * or when it is served. */
static void kept_back_until_memory_is_asked_for(void)
{
    space *s = hardened_space_new(0);
    heap *h = heap_of(s), *abandoned = heap_of(s);
    static const size_t sizes[] = {8, 100, 3000, 60000, 130000};
    char *block = NULL;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            CHECK_OK(heap_free(h, heap_allocate(abandoned, sizes[i])));
            CHECK_OK(heap_free(abandoned, block = heap_allocate(h, sizes[i])));
        }
        CHECK_HEAP(h, 0);
        CHECK(space_statistics(s).mapped_bytes > 0);
        heap_abandon(abandoned);
        heap_trim(h); /* of either, what was freed by the other */
        CHECK_EQUAL(space_statistics(s).mapped_bytes, 0);
        CHECK_STATUS(heap_free(h, block), FREE_FOREIGN);
        abandoned = heap_of(s); /* a new one: that one has ended */
    }
    CHECK_EQUAL(damages_of(s), 0);
    block = block_among_others(h, 100);
    size_t object_bytes = object_bytes_of(h, 100); /* before: another free could push the block out of quarantine */
    CHECK_OK(heap_free(h, block));
    block[object_bytes - 1] ^= 1;
    heap_trim(h);
    CHECK_EQUAL(damages_of(s), 1);
    CHECK_HEAP(h, 19);
    space_destroy(s);
}

/* Messages tell how many slots of a slab are live: what waits in quarantine is not. */
static void what_waits_is_not_counted_as_live(void)
{
    enum { COUNT = 100 };
    space *s = hardened_space_new(RESERVE_LEAST);
    heap *h = heap_of(s);
    char *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        REQUIRE((blocks[i] = heap_allocate(h, 3000)) != NULL);
    for (size_t freed = 0; freed < COUNT - 1; freed++) {
        const slab *of_last = space_slab_at(s, (uintptr_t)blocks[COUNT - 1]);
        size_t live = 0;
        for (size_t i = freed; i < COUNT; i++)
            live += space_slab_at(s, (uintptr_t)blocks[i]) == of_last;
        heap_place place = heap_inspect(s, blocks[COUNT - 1]);
        CHECK(place.is_live);
        CHECK_EQUAL(place.live_count, live);
        CHECK(heap_inspect(s, blocks[freed]).is_live);
        CHECK_OK(freed % 2 == 0 ? heap_free(h, blocks[freed]) : heap_free_remote(s, blocks[freed]));
        CHECK(!heap_inspect(s, blocks[freed]).is_live);
    }
    space_destroy(s);
}

/* What is kept for a class that has no use for it serves another, where there is no more. */
static void kept_slabs_serve_another_class(void)
{
    enum { BYTES = 300 };
    space *s = hardened_space_new(8 * MIB);
    heap *h = heap_of(s);
    char *last = NULL, *object;
    hold_sweep(h);
    for (; (object = heap_allocate(h, BYTES)) != NULL; last = object)
        *(char **)object = last;
    for (; last != NULL; last = object) {
        object = *(char **)last;
        CHECK_OK(heap_free(h, last));
    }
    CHECK(space_statistics(s).resting_bytes < MIB);
    CHECK((object = heap_allocate(h, 30000)) != NULL);
    slabmalloc_status status = SLABMALLOC_OK;
    CHECK((object = heap_reallocate(h, object, 60000, &status)) != NULL);
    CHECK_HEAP(h, 1);
    space_destroy(s);
}

/* What grows by small steps is not copied at each, and its end is watched all the same. */
static void grows_by_small_steps(void)
{
    enum { STEP = 8 * 1024, FIRST = 256 * 1024, MOST = 12 * 1024 * 1024 };
    space *s = hardened_space_new(RESERVE_LEAST);
    heap *h = heap_of(s);
    slabmalloc_status status = SLABMALLOC_OK;
    char *object = heap_allocate(h, FIRST);
    size_t moves = 0, bytes = FIRST;
    stamp(object, FIRST, 5);
    for (; bytes < MOST; bytes += STEP) {
        char *grown = heap_reallocate(h, object, bytes + STEP, &status);
        REQUIRE(grown != NULL);
        moves += grown != object;
        object = grown;
        CHECK_OK(status);
        CHECK_EQUAL(heap_usable_bytes(s, object), bytes + STEP);
        CHECK(all_zero(object + bytes, STEP));
        memset(object + bytes, 1, STEP);
    }
    CHECK(moves < 30 && is_stamped(object, FIRST, 5));
    object[bytes] ^= 1; /* within its room */
    CHECK_POINTER(heap_reallocate(h, object, bytes + STEP, &status), NULL);
    CHECK_STATUS(status, FREE_OVERFLOWN);
    CHECK_STATUS(heap_free(h, object), FREE_OVERFLOWN);
    space_destroy(s);
}

int main(void)
{
    RUN(random_operations);
    RUN(freed_twice);
    RUN(freed_where_no_block_begins);
    RUN(freed_by_two_threads_at_once);
    RUN(freed_by_another_while_it_leaves_quarantine);
    RUN(a_byte_behind_the_block);
    RUN(from_one_block_into_the_next);
    RUN(written_to_after_its_free);
    RUN(zeroed_whatever_was_written_to_it);
    RUN(slots_are_taken_at_random);
    RUN(freed_blocks_wait);
    RUN(kept_back_until_memory_is_asked_for);
    RUN(what_waits_is_not_counted_as_live);
    RUN(kept_slabs_serve_another_class);
    RUN(grows_by_small_steps);
    return check_finish();
}
