/* SPDX-License-Identifier: MIT
 *
 * The arena: pages of a unit or a chunk against a model that is an array of units. What rests keeps its contents and is
 * the next to be handed out, what is purged is zero; the lowest goes out first, the highest is the first to go back. In
 * huge pages memory comes and goes by whole ones.
 */
#include "fixture.h"
#include "heap/arena.h"
#include "huge_fixture.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CHUNKS = 70, UNITS = CHUNKS * ARENA_CHUNK_UNITS, NONE = UNITS }; /* more than a word of chunks */

typedef enum unit_state { PURGED, RESTING, IN_USE } unit_state;

typedef struct model {
    unit_state state[UNITS];
    unsigned char mark[UNITS]; /* in its first and last byte */
    size_t in_use, resting, peak, low, given_back;
    size_t span; /* units that come and go together: 1, or those of a huge page */
} model;

static char *unit_at(const arena *a, size_t unit) { return (char *)(a->base + unit * ARENA_UNIT_BYTES); }

static arena *arena_new_with(size_t chunks, const huge_use *huge)
{
    arena *a = calloc(1, sizeof *a);
    REQUIRE(a != NULL && arena_init(a, chunks * ARENA_CHUNK_BYTES, ARENA_CHUNK_BYTES, huge));
    CHECK_EQUAL(a->chunk_count, chunks);
    CHECK_EQUAL(a->reserved_bytes, chunks * ARENA_CHUNK_BYTES);
    CHECK_EQUAL(a->base % (huge->is_wanted ? huge->bytes : ARENA_CHUNK_BYTES), 0);
    CHECK(arena_is_valid(a));
    return a;
}

static arena *arena_new(size_t chunks) { return arena_new_with(chunks, &no_huge_pages); }

static void arena_delete(arena *a)
{
    arena_end(a);
    free(a);
}

/* Is a unit of the `count` that `unit` is one of in this state? */
static bool any_is(const model *m, size_t unit, size_t count, unit_state state)
{
    for (size_t u = unit / count * count; u < (unit / count + 1) * count; u++)
        if (m->state[u] == state)
            return true;
    return false;
}

/* The unit at which the next page has to begin: the lowest of what rests, else of all that is free; a unit rather in a
 * chunk that is in use in part, and a chunk in a huge page that is, so that whole ones are left for pages that need
 * them, and whole huge pages go back. */
static size_t model_next(const model *m, bool is_chunk)
{
    size_t best = NONE, best_rank = SIZE_MAX;
    for (size_t u = 0; u < UNITS; u += is_chunk ? ARENA_CHUNK_UNITS : 1) {
        bool is_broken = any_is(m, u, ARENA_CHUNK_UNITS, IN_USE);
        if (is_chunk ? is_broken : m->state[u] == IN_USE)
            continue;
        bool rests = is_chunk ? any_is(m, u, ARENA_CHUNK_UNITS, RESTING) : m->state[u] == RESTING;
        size_t rank = (rests ? 0u : 3u) + (is_broken ? 0u : any_is(m, u, m->span, IN_USE) ? 1u : 2u);
        if (rank < best_rank) {
            best = u;
            best_rank = rank;
        }
    }
    return best;
}

static void model_set(model *m, size_t unit, unit_state state)
{
    m->in_use -= m->state[unit] == IN_USE;
    m->resting -= m->state[unit] == RESTING;
    m->state[unit] = state;
    m->in_use += state == IN_USE;
    m->resting += state == RESTING;
}

/* Units that may be purged. */
static size_t model_spare(const model *m)
{
    size_t count = 0;
    for (size_t span = 0; span < UNITS; span += m->span) {
        size_t resting = 0, in_use = 0;
        for (size_t u = span; u < span + m->span; u++) {
            resting += m->state[u] == RESTING;
            in_use += m->state[u] == IN_USE;
        }
        count += in_use == 0 ? resting : 0;
    }
    return count;
}

static void model_note(model *m)
{
    size_t spare = model_spare(m);
    m->peak = m->in_use + m->resting > m->peak ? m->in_use + m->resting : m->peak;
    m->low = spare < m->low ? spare : m->low;
}

static void check_same(const arena *a, const model *m)
{
    CHECK(arena_is_valid(a));
    CHECK_EQUAL(a->in_use_count, m->in_use);
    CHECK_EQUAL(a->resting_count, m->resting);
    CHECK_EQUAL(a->peak_count, m->peak);
    CHECK_EQUAL(a->spare_low, m->low);
    CHECK(a->given_back_bytes <= m->given_back); /* not all of it was touched */
}

static void step_take(arena *a, model *m, random_source *source, bool is_chunk)
{
    size_t units = is_chunk ? ARENA_CHUNK_UNITS : 1, expected = model_next(m, is_chunk);
    char *page = arena_take(a, units * ARENA_UNIT_BYTES);
    if (!CHECK_POINTER(page, expected == NONE ? NULL : unit_at(a, expected)) || page == NULL)
        return;
    size_t span = expected / m->span * m->span;
    for (size_t u = span; m->span > 1 && u < span + m->span; u++)
        if (m->state[u] == PURGED)
            model_set(m, u, RESTING);
    for (size_t u = expected; u < expected + units; u++) {
        char *unit = unit_at(a, u);
        CHECK_EQUAL((unsigned char)unit[0], m->mark[u]);
        CHECK_EQUAL((unsigned char)unit[ARENA_UNIT_BYTES - 1], m->mark[u]);
        model_set(m, u, IN_USE);
        m->mark[u] = (unsigned char)(1 + random_below(source, 255));
        unit[0] = unit[ARENA_UNIT_BYTES - 1] = (char)m->mark[u];
    }
    model_note(m);
}

/* `pages` has the first unit of each page that is out, and UNITS more if it is a chunk. */
static void step_give(arena *a, model *m, size_t page)
{
    size_t first = page % UNITS, units = page >= UNITS ? ARENA_CHUNK_UNITS : 1;
    arena_give(a, unit_at(a, first), units * ARENA_UNIT_BYTES);
    for (size_t u = first; u < first + units; u++)
        model_set(m, u, RESTING);
    model_note(m);
}

static void step_purge(arena *a, model *m, size_t count)
{
    size_t bytes = arena_purge(a, count), expected = 0;
    for (size_t span = UNITS; span > 0 && expected < count;) {
        span -= m->span;
        if (!any_is(m, span, m->span, RESTING) || any_is(m, span, m->span, IN_USE))
            continue;
        for (size_t u = span; u < span + m->span; u++) {
            model_set(m, u, PURGED);
            m->mark[u] = 0;
        }
        expected += m->span;
    }
    CHECK_EQUAL(bytes, expected * ARENA_UNIT_BYTES);
    m->given_back += bytes;
    model_note(m);
}

static void random_steps(const huge_use *huge)
{
    for (uint64_t seed = 1; seed <= (UNDER_TSAN || UNDER_ASAN ? 2 : 6); seed++) {
        check_seed = seed;
        random_source source = random_from(seed);
        arena *a = arena_new_with(CHUNKS, huge);
        static model m;
        static size_t pages[UNITS];
        memset(&m, 0, sizeof m);
        m.span = huge->is_wanted ? huge->bytes / ARENA_UNIT_BYTES : 1;
        size_t count = 0;
        unsigned failures = atomic_load(&check_failures);
        for (int step = 0; step < 5000 && atomic_load(&check_failures) == failures; step++) {
            size_t what = random_below(&source, 100), filling = step / 1000 % 2 == 0 ? 60 : 35;
            if (what < filling) {
                bool is_chunk = random_below(&source, 12) == 0;
                size_t next = model_next(&m, is_chunk);
                step_take(a, &m, &source, is_chunk);
                if (next != NONE)
                    pages[count++] = next + (is_chunk ? UNITS : 0);
            } else if (what < 92) {
                if (count == 0)
                    continue;
                size_t i = random_below(&source, count);
                step_give(a, &m, pages[i]);
                pages[i] = pages[--count];
            } else if (what < 97) {
                step_purge(a, &m, random_below(&source, 30) == 0 ? SIZE_MAX : random_below(&source, 9));
            } else {
                CHECK_EQUAL(arena_note_low(a), m.low);
                m.low = model_spare(&m);
            }
            check_same(a, &m);
        }
        for (size_t i = 0; i < count; i++) /* what is in use is untouched by all that */
            CHECK_EQUAL((unsigned char)unit_at(a, pages[i] % UNITS)[0], m.mark[pages[i] % UNITS]);
        arena_delete(a);
    }
}

static void random_steps_as_in_the_model(void) { random_steps(&no_huge_pages); }

static void random_steps_in_huge_pages(void)
{
    static const size_t sizes[] = {ARENA_CHUNK_BYTES, 2 * ARENA_CHUNK_BYTES};
    for (size_t i = 0; i < 2; i++) {
        huge_use huge = {.bytes = sizes[i], .is_wanted = true};
        random_steps(&huge);
    }
}

static void a_range_is_used_up(void)
{
    enum { FEW = 3 };
    arena *a = arena_new(FEW);
    char *units[FEW * ARENA_CHUNK_UNITS];
    for (size_t i = 0; i < FEW * ARENA_CHUNK_UNITS; i++)
        CHECK_POINTER(units[i] = arena_take(a, ARENA_UNIT_BYTES), unit_at(a, i));
    CHECK_EQUAL(arena_fresh(a), FEW);
    CHECK_POINTER(arena_take(a, ARENA_UNIT_BYTES), NULL);
    CHECK_POINTER(arena_take(a, ARENA_CHUNK_BYTES), NULL);
    CHECK(arena_is_valid(a));
    CHECK_EQUAL(a->in_use_count, FEW * ARENA_CHUNK_UNITS);
    /* All units but one of a chunk are no chunk. */
    for (size_t i = ARENA_CHUNK_UNITS; i < 2 * ARENA_CHUNK_UNITS - 1; i++)
        arena_give(a, units[i], ARENA_UNIT_BYTES);
    CHECK_POINTER(arena_take(a, ARENA_CHUNK_BYTES), NULL);
    arena_give(a, units[2 * ARENA_CHUNK_UNITS - 1], ARENA_UNIT_BYTES);
    CHECK_POINTER(arena_take(a, ARENA_CHUNK_BYTES), units[ARENA_CHUNK_UNITS]);
    CHECK_POINTER(arena_take(a, ARENA_UNIT_BYTES), NULL);
    arena_give(a, units[ARENA_CHUNK_UNITS], ARENA_CHUNK_BYTES);
    /* A chunk's page comes back as units too. */
    for (size_t i = ARENA_CHUNK_UNITS; i < 2 * ARENA_CHUNK_UNITS; i++)
        CHECK_POINTER(arena_take(a, ARENA_UNIT_BYTES), units[i]);
    CHECK_POINTER(arena_take(a, ARENA_UNIT_BYTES), NULL);
    CHECK(arena_is_valid(a));
    arena_delete(a);
}

static void what_rests_goes_out_before_what_was_never_used(void)
{
    arena *a = arena_new(8);
    char *pages[6];
    for (size_t i = 0; i < 6; i++)
        REQUIRE((pages[i] = arena_take(a, ARENA_CHUNK_BYTES)) == unit_at(a, i * ARENA_CHUNK_UNITS));
    arena_give(a, pages[1], ARENA_CHUNK_BYTES);
    arena_give(a, pages[4], ARENA_CHUNK_BYTES);
    CHECK_EQUAL(arena_purge(a, 3), 3 * ARENA_UNIT_BYTES); /* the last three units of the higher one */
    CHECK_EQUAL(arena_purge(a, 0), 0);
    CHECK_POINTER(arena_take(a, ARENA_CHUNK_BYTES), pages[1]);
    CHECK_POINTER(arena_take(a, ARENA_UNIT_BYTES), pages[4]);
    arena_give(a, pages[4], ARENA_UNIT_BYTES);
    CHECK_EQUAL(arena_purge(a, SIZE_MAX), ARENA_CHUNK_BYTES - 3 * ARENA_UNIT_BYTES);
    CHECK_EQUAL(arena_purge(a, SIZE_MAX), 0);
    CHECK_EQUAL(a->resting_count, 0);
    CHECK_EQUAL(a->given_back_bytes, 0);                      /* nobody had touched it */
    CHECK_POINTER(arena_take(a, ARENA_UNIT_BYTES), pages[4]); /* purged, but lower than what is fresh */
    CHECK(arena_is_valid(a));
    arena_delete(a);
}

static size_t resident_os_pages(const char *begin, size_t bytes)
{
    unsigned char vector[ARENA_CHUNK_BYTES / 4096];
    size_t count = 0, pages = bytes / (size_t)sysconf(_SC_PAGESIZE);
    REQUIRE(mincore((void *)(uintptr_t)begin, bytes, vector) == 0);
    for (size_t i = 0; i < pages; i++)
        count += vector[i] & 1;
    return count;
}

static void purged_memory_is_the_systems(void)
{
    arena *a = arena_new(4);
    char *page = arena_take(a, ARENA_CHUNK_BYTES);
    REQUIRE(page != NULL);
    memset(page, 7, ARENA_CHUNK_BYTES);
    arena_give(a, page, ARENA_CHUNK_BYTES);
    size_t all = resident_os_pages(page, ARENA_CHUNK_BYTES);
    CHECK_EQUAL(all * (size_t)sysconf(_SC_PAGESIZE), ARENA_CHUNK_BYTES);
    CHECK_EQUAL(arena_purge(a, 5), 5 * ARENA_UNIT_BYTES);
    CHECK_EQUAL(resident_os_pages(page, ARENA_CHUNK_BYTES - 5 * ARENA_UNIT_BYTES), all / 16 * 11);
    CHECK_EQUAL(resident_os_pages(page + 11 * ARENA_UNIT_BYTES, 5 * ARENA_UNIT_BYTES), 0);
    CHECK_EQUAL(a->given_back_bytes, 5 * ARENA_UNIT_BYTES);
    arena_delete(a);
}

/* A free may end in a purge: no business of its caller's errno. */
static void a_refused_purge_keeps_errno(void)
{
    arena *a = arena_new(4);
    char *page = arena_take(a, ARENA_UNIT_BYTES);
    REQUIRE(page != NULL);
    if (syscall(SYS_mlock, page, ARENA_UNIT_BYTES) == 0) { /* sanitizers make a call of mlock nothing */
        errno = ERANGE;
        CHECK_EQUAL(slabmalloc_os_purge(page, ARENA_UNIT_BYTES), EINVAL);
        CHECK_EQUAL(errno, ERANGE);
        arena_give(a, page, ARENA_UNIT_BYTES);
        CHECK_EQUAL(arena_purge(a, SIZE_MAX), 0);
        CHECK_EQUAL(errno, ERANGE);
        CHECK_EQUAL(a->given_back_bytes, 0);
        syscall(SYS_munlock, page, ARENA_UNIT_BYTES);
    }
    arena_delete(a);
}

/* Of the largest huge pages that there are each counts for 32 chunks. */
static void huge_pages_of_many_chunks(void)
{
    huge_use huge = {.bytes = 32 * ARENA_CHUNK_BYTES, .is_wanted = true};
    arena *a = arena_new_with(96, &huge);
    char *first = arena_take(a, ARENA_UNIT_BYTES), *chunk = arena_take(a, ARENA_CHUNK_BYTES);
    CHECK_POINTER(first, unit_at(a, 0));
    CHECK_POINTER(chunk, unit_at(a, ARENA_CHUNK_UNITS));
    CHECK_EQUAL(a->in_use_count + a->resting_count, 32 * ARENA_CHUNK_UNITS);
    for (size_t i = 2; i < 33; i++)
        CHECK_POINTER(arena_take(a, ARENA_CHUNK_BYTES), unit_at(a, i * ARENA_CHUNK_UNITS));
    CHECK_EQUAL(arena_purge(a, SIZE_MAX), 0);
    arena_give(a, unit_at(a, 32 * ARENA_CHUNK_UNITS), ARENA_CHUNK_BYTES);
    CHECK(arena_is_valid(a));
    CHECK_EQUAL(arena_purge(a, 1), 32 * ARENA_CHUNK_BYTES);
    CHECK_EQUAL(a->in_use_count + a->resting_count, 32 * ARENA_CHUNK_UNITS);
    CHECK(arena_is_valid(a));
    arena_delete(a);
}

static void many_chunks_and_refused_ones(void)
{
    enum { MANY = 5000 }; /* three levels of summary */
    arena *a = arena_new(MANY);
    for (size_t i = 0; i < MANY; i++)
        if (!CHECK_POINTER(arena_take(a, ARENA_CHUNK_BYTES), unit_at(a, i * ARENA_CHUNK_UNITS)))
            break;
    CHECK_POINTER(arena_take(a, ARENA_UNIT_BYTES), NULL);
    static const size_t given[] = {4999, 4096, 64, 4095, 63, 0, 2500};
    static const size_t order[] = {0, 63, 64, 2500, 4095, 4096, 4999};
    for (size_t i = 0; i < 7; i++)
        arena_give(a, unit_at(a, given[i] * ARENA_CHUNK_UNITS), ARENA_CHUNK_BYTES);
    CHECK(arena_is_valid(a));
    for (size_t i = 0; i < 7; i++)
        CHECK_POINTER(arena_take(a, ARENA_CHUNK_BYTES), unit_at(a, order[i] * ARENA_CHUNK_UNITS));
    CHECK(arena_is_valid(a));
    CHECK_EQUAL(a->peak_count, (size_t)MANY * ARENA_CHUNK_UNITS);
    arena_delete(a);
    arena refused = {0};
    CHECK(!arena_init(&refused, (size_t)1 << 62, (size_t)1 << 61, &no_huge_pages));
}

int main(void)
{
    RUN(random_steps_as_in_the_model);
    RUN(random_steps_in_huge_pages);
    RUN(a_range_is_used_up);
    RUN(what_rests_goes_out_before_what_was_never_used);
    RUN(purged_memory_is_the_systems);
    RUN(a_refused_purge_keeps_errno);
    RUN(huge_pages_of_many_chunks);
    RUN(many_chunks_and_refused_ones);
    return check_finish();
}
