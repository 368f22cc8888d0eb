/* SPDX-License-Identifier: MIT
 *
 * More hardened heaps than there are mappings for the guards of their books: the later ones have none, and all else.
 */
#include "hardened_fixture.h"

#include "slab/pager.h"

enum { HEAPS = 40 };

static size_t mappings_now(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    REQUIRE(file != NULL);
    size_t count = 0;
    for (int c; (c = getc(file)) != EOF;)
        count += c == '\n';
    fclose(file);
    return count;
}

static bool is_heap_guarded(const heap *h)
{
    uintptr_t os_bytes = (uintptr_t)sysconf(_SC_PAGESIZE); /* a line of the store's lies before the heap */
    return touch_kills((char *)((uintptr_t)h & ~(os_bytes - 1)) - 1, true);
}

/* As many as there may be guarded, by what would be bookkeeping of other heaps. */
static char **use_up_guards(size_t *count)
{
    *count = os_most_guarded();
    char **others = calloc(*count, sizeof *others);
    REQUIRE(others != NULL);
    for (size_t i = 0; i < *count; i++) {
        others[i] = os_map_guarded(1, 16);
        REQUIRE(others[i] != NULL);
        others[i][0] = 1;
    }
    return others;
}

static void give_back(char **others, size_t count)
{
    for (size_t i = 0; i < count; i++)
        CHECK_EQUAL(os_unmap_guarded(others[i], 1), 0);
    free(others);
}

static void use(heap *h, size_t i)
{
    char *small = heap_allocate(h, 100 + i), *medium = heap_allocate(h, 20000), *large = heap_allocate(h, 300000);
    REQUIRE(small != NULL && medium != NULL && large != NULL);
    CHECK(all_zero(small, 100 + i) && all_zero(large, 300000));
    CHECK_OK(heap_free(h, small));
    CHECK_STATUS(heap_free(h, small), FREE_DOUBLE);
    large[300000] ^= 1; /* whatever the secret byte there is */
    CHECK_STATUS(heap_free(h, large), FREE_OVERFLOWN);
    CHECK_OK(heap_free(h, medium));
}

static void heaps_beyond_the_guards_have_none(void)
{
    space *s = hardened_space_new(0);
    heap *first = heap_of(s), *heaps[HEAPS];
    CHECK(is_heap_guarded(first));
    /* Half of the mappings are for slabs: with these there is room for what is the program's. */
    CHECK(s->guarded_bytes / ARENA_UNIT_BYTES * 2 + os_most_guarded() * 2 < os_most_mappings() / 10 * 9);
    CHECK(s->large.most_guarded < os_most_guarded());
    size_t count;
    char **others = use_up_guards(&count);
    CHECK(getenv("SLABMALLOC_EMULATED") != NULL || mappings_now() < os_most_mappings() / 2);
    for (size_t i = 0; i < HEAPS; i++) {
        REQUIRE((heaps[i] = heap_of(s)) != NULL);
        use(heaps[i], i);
    }
    CHECK(is_heap_guarded(first));
    CHECK(!is_heap_guarded(heaps[0]) && !is_heap_guarded(heaps[HEAPS - 1]));
    give_back(others, count);
    heap *last = heap_of(s);
    CHECK(is_heap_guarded(last));
    use(last, 1);
    space_destroy(s);
}

/* Every slab that changes lists may bring a tick, and a tick a trim: in the midst of a free. */
static void a_trim_within_a_free(void)
{
    enum { COUNT = 20000, BYTES = 100 };
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    random_source source = random_from(check_seed = 41);
    char **blocks = objects_new(h, COUNT, BYTES);
    for (size_t left = COUNT; left > 0; left--) {
        size_t i = random_below(&source, left);
        atomic_store(&h->trim_wanted, true);
        REQUIRE(hardened_free_quickly(h, blocks[i]) || heap_free(h, blocks[i]) == SLABMALLOC_OK);
        REQUIRE(damages_of(s) == 0);
        blocks[i] = blocks[left - 1];
    }
    free(blocks);
    CHECK_HEAP(h, 0);
    hardened_trim(h);
    for (uint32_t i = 0; i < HEAP_CLASSES; i++)
        CHECK_EQUAL(atomic_load(&h->hardened->classes[i].held_count), 0);
    CHECK_EQUAL(damages_of(s), 0);
    space_destroy(s);
}

static void blocks_served_are_counted(void)
{
    enum { COUNT = 5000, BYTES = 100 };
    space *s = hardened_space_new(0);
    heap *h = heap_of(s);
    for (size_t i = 0; i < COUNT; i++) {
        void *block = hardened_allocate_quickly(h, BYTES);
        CHECK_OK(heap_free(h, block != NULL ? block : heap_allocate(h, BYTES)));
    }
    space_stats stats = space_statistics(s);
    uint64_t waiting = 0;
    for (uint32_t i = 0; i < HEAP_CLASSES; i++)
        waiting +=
            atomic_load(&h->hardened->classes[i].held_count) + (atomic_load(&h->hardened->classes[i].spare) != 0);
    CHECK(stats.served_objects >= COUNT && stats.served_objects <= COUNT + waiting);
    space_destroy(s);
}

int main(void)
{
    RUN(heaps_beyond_the_guards_have_none);
    RUN(a_trim_within_a_free);
    RUN(blocks_served_are_counted);
    return check_finish();
}
