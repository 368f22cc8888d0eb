/* SPDX-License-Identifier: MIT
 *
 * Bytes become calls of malloc and its kin, of bindings/preload/malloc.c itself, by threads that take turns, end and
 * fork, while time passes and the system refuses now and then (malloc_process.h). After each step every heap is
 * audited, and all that is counted must be what the model has (malloc_model.h): who holds which block, and what is in
 * it. Half of the inputs play a hardened process; there blocks are written beyond their end too, and that must be
 * found.
 *
 *     tools/ci/fuzz.sh 600 malloc
 *
 * builds it (its sources get other names for malloc and for system calls) and runs it for ten minutes.
 */
#include "input.h"

#include <errno.h>
#include <malloc.h>
#include <unistd.h>

#include "malloc_model.h"
#include "malloc_process.h"
#include "thread_domain.h"

enum { MAX_STEPS = 600, BURST = 300, KEPT_ERRNO = ENOTTY };

typedef struct fuzz {
    input in;
    space_options options;
    model m;
} fuzz;

/* Has every range been used to its last chunk, and is no further one allowed? */
static bool is_used_up(const space *s)
{
    uint32_t count = atomic_load(&s->range_count);
    const arena *last = &s->ranges[count - 1].arena;
    return count == s->options.max_ranges && arena_fresh(last) == last->chunk_count;
}

/* What was asked for just now: may the answer be NULL? */
static bool may_be_refused(size_t bytes, size_t align)
{
    bool is_large = bytes > HEAP_MEDIUM_BYTES || align > HEAP_MEDIUM_BYTES;
    return process.was_refused || bytes > MOST_HELD_BYTES || align > MIB || (!is_large && is_used_up(process.space));
}

/* ---- what is asked for ------------------------------------------------------------------------------------ */

static size_t next_size(fuzz *f)
{
    static const size_t odd[] = {0, 1, SIZE_MAX, SIZE_MAX - 4095, SIZE_MAX / 2, SIZE_MAX / 2 + 1, (size_t)1 << 47};
    input *in = &f->in;
    const slabmalloc_size_classes *classes = &f->options.classes;
    switch (next_byte(in) % 8) {
    case 0:
    case 1: return next_below(in, 1025);
    case 2:
    case 3: return classes->sizes[next_below(in, classes->count)] + 1 - next_below(in, 3);
    case 4: return next_below(in, HEAP_SMALL_BYTES + 1);
    case 5: return HEAP_SMALL_BYTES + 16 * next_below(in, (HEAP_MEDIUM_BYTES - HEAP_SMALL_BYTES) / 16 + 1);
    case 6: return HEAP_MEDIUM_BYTES - 1 + 64 * next_below(in, 65536) + next_below(in, 3);
    default: return odd[next_below(in, sizeof odd / sizeof *odd)];
    }
}

static size_t next_align(fuzz *f)
{
    static const size_t odd[] = {0, 3, 24, 4097, (size_t)1 << 40, (size_t)1 << 63};
    uint8_t choice = next_byte(&f->in);
    return choice < 220 ? (size_t)1 << choice % 21 : odd[choice % (sizeof odd / sizeof *odd)];
}

static void expect(void)
{
    errno = KEPT_ERRNO;
    process.was_refused = false;
}

/* What malloc or one of its kin has answered, since `expect`. */
static void accept(fuzz *f, char *block, size_t bytes, size_t align)
{
    CHECK_EQUAL(errno, block != NULL ? KEPT_ERRNO : ENOMEM);
    if (block == NULL) {
        if (!CHECK(may_be_refused(bytes, align)))
            printf("%zu bytes aligned to %zu\n", bytes, align);
        return;
    }
    CHECK_EQUAL((uintptr_t)block % align, 0);
    CHECK_EQUAL((uintptr_t)block % HEAP_ALIGN_BYTES, 0);
    note_live(&f->m, block, bytes);
}

static void allocate(fuzz *f)
{
    size_t bytes = next_size(f);
    if (is_full(&f->m, bytes))
        return;
    expect();
    accept(f, malloc(bytes), bytes, 1);
}

static void allocate_zeroed(fuzz *f)
{
    size_t bytes = next_size(f), count = next_byte(&f->in) % 5, total;
    bool is_too_much = __builtin_mul_overflow(count, bytes, &total);
    if (!is_too_much && is_full(&f->m, total))
        return;
    expect();
    char *block = calloc(count, bytes);
    if (block != NULL)
        CHECK(!is_too_much && is_zero(block, total));
    accept(f, block, is_too_much ? SIZE_MAX : total, 1);
}

static void allocate_aligned(fuzz *f)
{
    size_t bytes = next_size(f), align = next_align(f), os_page = (size_t)sysconf(_SC_PAGESIZE);
    bool is_power = align != 0 && (align & (align - 1)) == 0;
    uint8_t way = next_byte(&f->in) % 5;
    if (is_full(&f->m, bytes > MOST_HELD_BYTES ? bytes : bytes + os_page))
        return;
    void *(*volatile aligned)(size_t, size_t) = way == 1 ? aligned_alloc : memalign; /* whose attribute forbids 0 */
    char *block = NULL;
    expect();
    if (way == 0) {
        int status = posix_memalign((void **)&block, align, bytes);
        CHECK_EQUAL(errno, KEPT_ERRNO);
        errno = status == 0 ? KEPT_ERRNO : status;
        is_power = is_power && align % sizeof(void *) == 0;
    } else if (way == 1) {
        block = aligned(align, bytes);
    } else if (way == 2) {
        block = aligned(align, bytes);
        is_power = true; /* the next one is taken */
        align = align < 16 ? 16 : align > SIZE_MAX / 4 ? align : (size_t)1 << (64 - __builtin_clzl(align - 1));
    } else {
        block = way == 3 ? valloc(bytes) : pvalloc(bytes);
        align = os_page;
        is_power = true;
        if (way == 4)
            bytes = bytes > SIZE_MAX - os_page ? SIZE_MAX : (bytes + os_page - 1) / os_page * os_page;
    }
    if (is_power) {
        accept(f, block, bytes, align);
        return;
    }
    CHECK_POINTER(block, NULL);
    CHECK_EQUAL(errno, EINVAL);
}

/* Many of a size, so that slabs become full, and so do classes and ranges. */
static void allocate_many(fuzz *f)
{
    size_t bytes = next_size(f), count = next_below(&f->in, BURST);
    for (size_t i = 0; i < count && bytes <= HEAP_MEDIUM_BYTES && !is_full(&f->m, bytes); i++) {
        expect();
        accept(f, malloc(bytes), bytes, 1);
    }
}

/* ---- what comes back -------------------------------------------------------------------------------------- */

static void free_at(fuzz *f, size_t i)
{
    live_block b = f->m.live[i];
    check_contents(&b);
    memset(b.address, 0xDD, b.bytes < 64 ? b.bytes : 64); /* two holders of the same memory would notice */
    forget(&f->m, i);
    expect();
    free(b.address);
    CHECK_EQUAL(errno, KEPT_ERRNO);
}

static void free_one(fuzz *f)
{
    if (f->m.count > 0)
        free_at(f, next_below(&f->in, f->m.count));
}

/* All but every n-th, so that slabs become empty, or nearly. */
static void free_many(fuzz *f)
{
    size_t n = 1 + next_below(&f->in, 9), most = next_below(&f->in, BURST);
    for (size_t i = f->m.count; i-- > 0 && most > 0; most--)
        if (n == 1 || i % n != 0)
            free_at(f, i);
}

static void resize(fuzz *f)
{
    size_t i = f->m.count > 0 ? next_below(&f->in, f->m.count) : 0, bytes = next_size(f);
    uint8_t way = next_byte(&f->in);
    if (f->m.count == 0 || way == 0) {
        if (is_full(&f->m, bytes))
            return;
        expect();
        accept(f, realloc(NULL, bytes), bytes, 1);
        return;
    }
    live_block b = f->m.live[i];
    if (is_full(&f->m, bytes) && f->m.count < MAX_LIVE)
        return;
    check_contents(&b);
    expect();
    char *block = way % 4 == 0 ? reallocarray(b.address, bytes, 1) : realloc(b.address, bytes);
    if (bytes == 0) {
        CHECK_POINTER(block, NULL);
        CHECK_EQUAL(errno, KEPT_ERRNO);
        forget(&f->m, i);
        return;
    }
    if (block == NULL) {
        CHECK_EQUAL(errno, ENOMEM);
        if (!CHECK(bytes > b.usable_bytes && may_be_refused(bytes, 1)))
            printf("%zu bytes, usable %zu, to %zu\n", b.bytes, b.usable_bytes, bytes);
        check_contents(&b);
        return;
    }
    CHECK(is_stamped(block, b.bytes, b.tag, b.bytes < bytes ? b.bytes : bytes));
    forget(&f->m, i);
    if (block == b.address)
        f->m.freed_count--; /* it is not free */
    accept(f, block, bytes, 1);
}

/* ---- misuse ----------------------------------------------------------------------------------------------- */

static void act_free(void *block, size_t bytes) { (void)bytes, free(block); }
static void act_realloc(void *block, size_t bytes) { CHECK_POINTER(realloc(block, bytes), NULL); }
static void act_usable_size(void *block, size_t bytes) { (void)bytes, CHECK(malloc_usable_size(block) == 0); }

static char *next_address(fuzz *f)
{
    input *in = &f->in;
    const range *r = &process.space->ranges[next_byte(in) % atomic_load(&process.space->range_count)];
    const live_block *b = f->m.count > 0 ? &f->m.live[next_below(in, f->m.count)] : NULL;
    size_t bytes = b == NULL || b->usable_bytes == 0 ? 1 : b->usable_bytes;
    switch (next_byte(in) % 6) {
    case 0:
    case 1: return f->m.freed[next_byte(in) % FREED];
    case 2: return b == NULL ? NULL : b->address + next_below(in, bytes < 65536 ? bytes : 65536);
    case 3: return b == NULL ? NULL : b->address + (bytes - next_below(in, 2)) / (1 + next_byte(in) % 2);
    case 4: return (char *)r->arena.base + 16 * next_below(in, 65536) % r->arena.reserved_bytes;
    default: return (char *)((uintptr_t)next_byte(in) << next_below(in, 57));
    }
}

static void misuse(fuzz *f)
{
    char *address = next_address(f);
    size_t bytes = next_size(f);
    uint8_t way = next_byte(&f->in) % 4;
    const live_block *b = holder_of(&f->m, address);
    if (b != NULL && b->address == address)
        return; /* no misuse */
    if (address == NULL) {
        CHECK(process_stop_of(act_free, NULL, 0) == NULL && process_stop_of(act_usable_size, NULL, 0) == NULL);
        return;
    }
    heap_place place = heap_inspect(process.space, address);
    bool is_double = b == NULL && place.kind == HEAP_SLOT && place.object == address;
    const char *expected = is_double ? "double free" : "invalid free", *stop;
    expect();
    if (way == 0) {
        stop = process_stop_of(act_usable_size, address, 0);
        expected = "invalid malloc_usable_size";
    } else if (way == 1) {
        stop = process_stop_of(act_realloc, address, bytes);
        expected = bytes == 0 ? expected : "invalid realloc";
    } else {
        stop = process_stop_of(act_free, address, 0);
    }
    if (!CHECK(stop != NULL && strcmp(stop, expected) == 0))
        printf("%p: %s, not %s\n", (void *)address, stop == NULL ? "nothing" : stop, expected);
}

/* A byte behind the block is written, and put right again: whoever frees or resizes it meanwhile finds out. (Where the
 * system refused, a block that was to shrink still has the bytes it had.) */
static void overflow(fuzz *f)
{
    const live_block *b = f->m.count > 0 ? &f->m.live[next_below(&f->in, f->m.count)] : NULL;
    uint8_t change = next_byte(&f->in);
    /* (A thread to which the system refuses a heap leaves a block that is to shrink as it is.) */
    bool is_realloc = next_byte(&f->in) % 2 != 0 && process.refusals_end == 0;
    size_t bytes = next_size(f);
    if (!f->options.is_hardened || b == NULL || b->bytes == 0 || change == 0)
        return;
    char *behind = b->address + b->usable_bytes;
    *behind = (char)(*behind ^ change);
    expect();
    const char *stop = process_stop_of(is_realloc ? act_realloc : act_free, b->address, bytes);
    *behind = (char)(*behind ^ change);
    const char *expected = is_realloc && bytes > 0 ? "invalid realloc" : "invalid free";
    if (!CHECK(stop != NULL && strcmp(stop, expected) == 0))
        printf("%p of %zu bytes: %s, not %s\n", (void *)b->address, b->bytes, stop == NULL ? "nothing" : stop,
               expected);
}

/* ---- what else happens ------------------------------------------------------------------------------------ */

static void trim(fuzz *f)
{
    expect();
    int is_any = malloc_trim(next_byte(&f->in));
    CHECK(is_any == 0 || is_any == 1);
    CHECK_EQUAL(errno, KEPT_ERRNO);
}

static void pass_time(fuzz *f) { process.now_ns += (UINT64_C(1) << next_below(&f->in, 24)) * 1000; }

static void change_system(fuzz *f)
{
    process.refused = next_byte(&f->in);
    process.refusals_begin = next_byte(&f->in) % 8;
    process.refusals_end = process.refusals_begin + next_byte(&f->in) % 32;
}

/* ---- after each step -------------------------------------------------------------------------------------- */

/* A page whose guard the system did not take away is nobody's any more. */
static bool has_traps(const fuzz *f) { return f->options.is_hardened && process.kept_guards; }

static void compare(fuzz *f)
{
    space *s = process.space;
    for (heap *h = s->heaps; h != NULL; h = h->next) {
        const char *fault = heap_audit(h);
        if (!CHECK(fault == NULL))
            puts(fault);
    }
    space_stats stats = space_statistics(s);
    CHECK_EQUAL(stats.live_objects, f->m.count);
    if (s->options.is_hardened) /* where usable bytes are those that were asked for, not the slot's */
        CHECK(stats.live_bytes >= f->m.held_bytes);
    else
        CHECK_EQUAL(stats.live_bytes, f->m.held_bytes);
    size_t accounted = stats.live_bytes + stats.free_bytes + stats.tail_bytes + stats.resting_bytes;
    if (has_traps(f))
        CHECK(accounted <= stats.mapped_bytes && (stats.mapped_bytes - accounted) % HEAP_PAGE_BYTES == 0);
    else
        CHECK_EQUAL(accounted, stats.mapped_bytes);
    CHECK(stats.mapped_bytes <= stats.peak_mapped_bytes);
    struct mallinfo2 info = mallinfo2();
    CHECK_EQUAL(info.uordblks + info.hblkhd, stats.live_bytes);
    pymem_counters counters;
    REQUIRE(thread_domain_count(THREAD_MALLOC, &counters));
    static uint64_t frees_before; /* of threads without a heap, which are counted for all spaces together */
    if (f->m.tag == 0 && f->m.count == 0)
        frees_before = counters.freed_blocks - counters.served_blocks;
    CHECK_EQUAL(counters.served_blocks - counters.freed_blocks + frees_before, f->m.count);
    if (f->m.count > 0)
        check_contents(&f->m.live[f->m.tag * 7 % f->m.count]);
    stop_on_failure(&f->in);
}

static void step(fuzz *f)
{
    uint8_t choice = next_byte(&f->in);
    switch (choice % 20) {
    case 0:
    case 1: allocate(f); break;
    case 2: allocate_zeroed(f); break;
    case 3: allocate_aligned(f); break;
    case 4:
    case 5: allocate_many(f); break;
    case 6:
    case 7:
    case 8: free_one(f); break;
    case 9: free_many(f); break;
    case 10:
    case 11:
    case 12: resize(f); break;
    case 13: (choice < 160 ? misuse : overflow)(f); break;
    case 14: trim(f); break;
    case 15: pass_time(f); break;
    case 16: change_system(f); break;
    case 17:
    case 18: process_turn(choice / 20u % (SEATS + 1)); break;
    default:
        if (choice < 160)
            process_thread_ends(choice < 60);
        else
            process_forks(choice < 220);
        break;
    }
    compare(f);
}

/* Everything is freed, by one thread, and every heap gives back what it has: nothing is left, not even addresses. */
static void finish(fuzz *f)
{
    process.refused = 0;
    process_turn(0);
    while (f->m.count > 0)
        free_at(f, f->m.count - 1);
    compare(f);
    for (int i = 0; i < 2; i++) { /* what a hardened heap has kept back may be another's, which takes it then */
        malloc_trim(0);           /* which does it for heaps without an owner too */
        for (heap *h = process.space->heaps; h != NULL; h = h->next)
            if (h->state == HEAP_OWNED)
                heap_trim(h);
    }
    compare(f);
    if (process.lost_heaps == 0 && !has_traps(f))
        CHECK_EQUAL(space_statistics(process.space).mapped_bytes, 0);
    process_end();
    if (!process.kept_addresses)
        CHECK_EQUAL(process.mapped_bytes, 0);
    stop_on_failure(&f->in);
}

static space_options next_options(input *in)
{
    static const char *const classes[] = {"default", "powers-of-two", "geometric:2", "16,48,112,1024,9216"};
    static const size_t reserves[] = {4 * MIB, 5 * MIB, 16 * MIB, 64 * MIB};
    space_options options = space_options_default();
    uint8_t choice = next_byte(in), more = next_byte(in);
    heap_classes_fault fault;
    REQUIRE(heap_classes_read(classes[choice % 4], &options.classes, &fault));
    options.reserve_bytes = reserves[choice / 4 % 4];
    options.max_ranges = (uint32_t[]){1, 2, 3, SPACE_MAX_RANGES}[choice / 16 % 4];
    options.decay_ms = (uint32_t[]){0, 1, 50, 1000}[choice / 64];
    options.rest_bound_bytes = ((size_t[]){0, MIB, 8 * MIB, 64 * MIB})[more % 4];
    options.machine = (huge_machine){2 * MIB, more / 4 % 4 == 3 ? HUGE_ALWAYS : HUGE_ADVISED};
    options.huge_pages = more >= 224;
    options.is_hardened = more / 16 % 2 != 0;
    return options;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static fuzz f;
    static bool is_begun;
    if (!is_begun)
        thread_domain_begin(THREAD_MALLOC);
    is_begun = true;
    memset(&f, 0, sizeof f);
    f.in = (input){bytes, size};
    f.options = next_options(&f.in);
    process_begin(&f.options);
    compare(&f);
    for (size_t steps = 0; f.in.left > 0 && steps < MAX_STEPS; steps++)
        step(&f);
    finish(&f);
    return 0;
}
