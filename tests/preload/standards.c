/* SPDX-License-Identifier: MIT
 *
 * What ISO C, POSIX and the C library promise of malloc and its kin, one thread.
 */
#define _GNU_SOURCE
#include "check.h"

#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>

static const size_t kinds[] = {1,    8,     16,     17,     100,    511,     1024,    3000,     8192,
                               8193, 20000, 131072, 131073, 200000, 1 << 20, 3 << 20, 16 << 20, 64 << 20};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* The compiler must not know what it calls. */
static void *(*volatile a_malloc)(size_t) = malloc;
static void *(*volatile a_calloc)(size_t, size_t) = calloc;
static void *(*volatile a_realloc)(void *, size_t) = realloc;
static void *(*volatile a_reallocarray)(void *, size_t, size_t) = reallocarray;
static void *(*volatile a_memalign)(size_t, size_t) = memalign;
static void *(*volatile a_aligned_alloc)(size_t, size_t) = aligned_alloc;
static int (*volatile a_posix_memalign)(void **, size_t, size_t) = posix_memalign;
static void *(*volatile a_valloc)(size_t) = valloc;
static void *(*volatile a_pvalloc)(size_t) = pvalloc;
static void (*volatile a_free)(void *) = free;

static int compare(const void *a, const void *b)
{
    uintptr_t one = *(const uintptr_t *)a, other = *(const uintptr_t *)b;
    return one < other ? -1 : one > other;
}

static void size_zero(void)
{
    enum { COUNT = 20 * 500 };
    static void *blocks[COUNT];
    for (int i = 0; i < COUNT; i += 20) {
        void **at = blocks + i;
        for (int j = 0; j < 10; j++)
            at[j] = a_malloc(0);
        at[10] = a_calloc(0, 100);
        at[11] = a_calloc(100, 0);
        at[12] = a_calloc(SIZE_MAX, 0);
        at[13] = a_realloc(NULL, 0);
        at[14] = a_memalign(64, 0);
        at[15] = a_aligned_alloc(64, 0);
        REQUIRE(a_posix_memalign(&at[16], 64, 0) == 0);
        at[17] = a_valloc(0);
        at[18] = a_pvalloc(0);
        at[19] = a_reallocarray(NULL, 0, 8);
        for (int j = 14; j < 17; j++)
            REQUIRE((uintptr_t)at[j] % 64 == 0);
        REQUIRE((uintptr_t)at[17] % 4096 == 0 && (uintptr_t)at[18] % 4096 == 0);
    }
    qsort(blocks, COUNT, sizeof(void *), compare);
    for (int i = 0; i < COUNT; i++)
        REQUIRE(blocks[i] != NULL && (uintptr_t)blocks[i] % 16 == 0 && (i == 0 || blocks[i] != blocks[i - 1]));
    for (int i = 0; i < COUNT; i++)
        a_free(blocks[i]);
}

static const size_t huge[] = {
    SIZE_MAX,        SIZE_MAX - 1,       SIZE_MAX - 15,        SIZE_MAX - 16,        SIZE_MAX - 4095,
    SIZE_MAX - 4096, SIZE_MAX - 65535,   SIZE_MAX - (1 << 20), SIZE_MAX - (1 << 21), (size_t)PTRDIFF_MAX + 1,
    PTRDIFF_MAX,     PTRDIFF_MAX - 4096, SIZE_MAX / 4,         (size_t)1 << 60,      (size_t)1 << 48};

#define REFUSED(call)                                                                                                  \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        REQUIRE((call) == NULL);                                                                                       \
        REQUIRE(errno == ENOMEM);                                                                                      \
    } while (0)

static void size_huge(void)
{
    for (size_t i = 0; i < sizeof(huge) / sizeof(huge[0]); i++) {
        REFUSED(a_malloc(huge[i]));
        REFUSED(a_calloc(1, huge[i]));
        REFUSED(a_calloc(huge[i], 1));
        REFUSED(a_realloc(NULL, huge[i]));
        REFUSED(a_reallocarray(NULL, 1, huge[i]));
        REFUSED(a_valloc(huge[i]));
        REFUSED(a_pvalloc(huge[i]));
        for (size_t align = 16; align <= (size_t)1 << 21; align *= 2) {
            REFUSED(a_memalign(align, huge[i]));
            REFUSED(a_aligned_alloc(align, huge[i]));
            void *same = &same;
            errno = 77;
            REQUIRE(a_posix_memalign(&same, align, huge[i]) == ENOMEM);
            REQUIRE(same == &same && errno == 77);
        }
    }
    REFUSED(a_aligned_alloc((size_t)1 << 62, 8));
    REFUSED(a_aligned_alloc((size_t)1 << 62, (size_t)1 << 62));
    REFUSED(a_aligned_alloc((size_t)1 << 63, 8));
    REFUSED(a_memalign((size_t)1 << 63, 8));
    void *block = a_malloc(100); /* and life goes on */
    REQUIRE(block != NULL);
    a_free(block);
}

static void products(void)
{
    static const size_t pairs[][2] = {
        {SIZE_MAX, 2},           {2, SIZE_MAX},        {(size_t)1 << 32, (size_t)1 << 32}, {SIZE_MAX / 2 + 1, 2},
        {SIZE_MAX / 16 + 2, 16}, {SIZE_MAX, SIZE_MAX}, {(size_t)1 << 33, (size_t)1 << 31}, {3, SIZE_MAX / 3 + 1}};
    unsigned char *block = a_malloc(5000);
    paint(block, 5000, 9);
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        REFUSED(a_calloc(pairs[i][0], pairs[i][1]));
        REFUSED(a_reallocarray(NULL, pairs[i][0], pairs[i][1]));
        REFUSED(a_reallocarray(block, pairs[i][0], pairs[i][1]));
        REQUIRE(is_painted(block, 5000, 9));
    }
    block = a_reallocarray(block, 70, 1000);
    REQUIRE(block != NULL && is_painted(block, 5000, 9));
    a_free(block);
    block = a_calloc(1000, 77);
    REQUIRE(block != NULL && malloc_usable_size(block) >= 77000 && is_zero(block, 77000));
    a_free(block);
}

static void bad_alignments(void)
{
    static const size_t bad[] = {0, 1, 2, 3, 4, 6, 12, 24, 40, 48, 100, SIZE_MAX, ((size_t)1 << 63) + 8};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        void *same = &same;
        errno = 77;
        REQUIRE(a_posix_memalign(&same, bad[i], 100) == EINVAL);
        REQUIRE(same == &same && errno == 77);
    }
    errno = 0;
    REQUIRE(a_memalign(SIZE_MAX, 1) == NULL && errno == EINVAL);
    for (size_t align = 0; align < 300; align++) { /* the C library rounds them up */
        void *block = a_memalign(align, 100);
        REQUIRE(block != NULL && (uintptr_t)block % 16 == 0);
        REQUIRE(align == 0 || (uintptr_t)block % ((size_t)1 << (64 - __builtin_clzl(2 * align - 1) - 1)) == 0);
        memset(block, 1, 100);
        a_free(block);
    }
    for (size_t align = 1; align <= 8; align *= 2) {
        void *block = a_aligned_alloc(align, 24);
        REQUIRE(block != NULL && (uintptr_t)block % align == 0);
        a_free(block);
    }
}

/* aligned_alloc of an alignment that is none; the C library refuses since 2.38. */
static void bad_aligned_alloc(void)
{
    static const size_t bad[] = {0, 3, 24, 48, SIZE_MAX};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        errno = 0;
        REQUIRE(a_aligned_alloc(bad[i], 96) == NULL && errno == EINVAL);
    }
}

static void errno_is_left_alone(void)
{
    unsigned long random = 88172645463325252ul;
    enum { HELD = 512 };
    static void *held[HELD];
    errno = 4321;
    for (int i = 0; i < 300000; i++) {
        unsigned long dice = next_random(&random);
        size_t slot = dice % HELD, bytes = dice >> 20 & 1023;
        if (dice % 1024 == 0)
            bytes *= 200;
        if (dice % 16384 == 0)
            bytes *= 100;
        if (dice % 7 == 0) {
            held[slot] = a_realloc(held[slot], bytes + 1);
        } else {
            a_free(held[slot]);
            REQUIRE(errno == 4321);
            held[slot] = dice % 5 == 0 ? a_calloc(1, bytes) : dice % 11 == 0 ? a_memalign(256, bytes) : a_malloc(bytes);
        }
        REQUIRE(held[slot] != NULL && errno == 4321);
    }
    for (int i = 0; i < HELD; i++)
        a_free(held[i]);
    malloc_trim(0);
    REQUIRE(errno == 4321);
}

static void every_block_is_aligned(void)
{
    for (size_t bytes = 0; bytes < 300000; bytes += 1 + bytes / 30) {
        void *blocks[4] = {a_malloc(bytes), a_calloc(bytes, 1), a_realloc(NULL, bytes),
                           a_realloc(a_malloc(1), bytes + 1)};
        for (int i = 0; i < 4; i++) {
            REQUIRE(blocks[i] != NULL && (uintptr_t)blocks[i] % 16 == 0);
            a_free(blocks[i]);
        }
    }
}

static void every_alignment(void)
{
    enum { SIZES = 14, HELD = 3 };
    for (size_t align = 8; align <= 1 << 20; align *= 2) {
        const size_t sizes[SIZES] = {0,         1,   16,   align - 1, align,  align + 1, 2 * align,
                                     3 * align, 100, 5000, 9000,      131072, 200000,    3 << 20};
        unsigned char *held[SIZES][HELD];
        for (int i = 0; i < SIZES; i++)
            for (int j = 0; j < HELD; j++) {
                void *block = NULL;
                if (j == 0)
                    REQUIRE(a_posix_memalign(&block, align, sizes[i]) == 0);
                else
                    block = j == 1 ? a_aligned_alloc(align, sizes[i]) : a_memalign(align, sizes[i]);
                REQUIRE(block != NULL && (uintptr_t)block % align == 0 && (uintptr_t)block % 16 == 0);
                REQUIRE(malloc_usable_size(block) >= sizes[i]);
                paint(block, sizes[i], align + (unsigned)(i * HELD + j));
                held[i][j] = block;
            }
        for (int i = 0; i < SIZES; i++)
            for (int j = 0; j < HELD; j++) {
                unsigned long seed = align + (unsigned)(i * HELD + j);
                REQUIRE(is_painted(held[i][j], sizes[i], seed));
                if (j == 1) { /* a realloc of it keeps the contents, if not the alignment */
                    held[i][j] = a_realloc(held[i][j], sizes[i] + 5000);
                    REQUIRE(held[i][j] != NULL && is_painted(held[i][j], sizes[i], seed));
                }
                a_free(held[i][j]);
            }
    }
    for (int shift = 21; shift <= 32; shift++) {
        void *block = a_memalign((size_t)1 << shift, 100);
        REQUIRE(block != NULL && (uintptr_t)block % ((size_t)1 << shift) == 0);
        a_free(block);
    }
    for (size_t bytes = 1; bytes < 300000; bytes = bytes * 2 + 1) {
        void *one = a_valloc(bytes), *other = a_pvalloc(bytes);
        REQUIRE(one != NULL && other != NULL && (uintptr_t)one % 4096 == 0 && (uintptr_t)other % 4096 == 0);
        size_t whole = (bytes + 4095) & ~(size_t)4095;
        REQUIRE(malloc_usable_size(other) >= whole);
        memset(other, 1, whole);
        a_free(one);
        a_free(other);
    }
}

static void calloc_is_zero(void)
{
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < KINDS; i++) {
            void *dirty[8];
            int count = kinds[i] > 1 << 20 ? 1 : 8;
            for (int j = 0; j < count; j++) {
                dirty[j] = a_malloc(kinds[i]);
                REQUIRE(dirty[j] != NULL);
                memset(dirty[j], 0xA5, malloc_usable_size(dirty[j]));
            }
            for (int j = 0; j < count; j++)
                a_free(dirty[j]);
            size_t bytes =
                kinds[i] - kinds[i] / 8 * (unsigned)round / 2; /* a little less is served by the same memory */
            for (int j = 0; j < count; j++) {
                dirty[j] = j % 2 == 0 ? a_calloc(1, bytes) : a_calloc(bytes, 1);
                REQUIRE(dirty[j] != NULL && is_zero(dirty[j], bytes));
                memset(dirty[j], 0x5A, malloc_usable_size(dirty[j]));
            }
            for (int j = 0; j < count; j++)
                a_free(dirty[j]);
            size_t more = kinds[i] + kinds[i] / 2; /* memory that rests grows by fresh memory */
            unsigned char *grown = a_calloc(more, 1);
            REQUIRE(grown != NULL && is_zero(grown, more));
            a_free(grown);
        }
}

/* As a vector grows that is cleared: what comes back dirty is given out again. */
static void calloc_is_zero_by_chance(void)
{
    enum { HELD = 64 };
    unsigned char *held[HELD] = {NULL};
    unsigned long random = 123456789;
    for (int i = 0; i < 20000; i++) {
        unsigned long dice = next_random(&random);
        size_t slot = dice % HELD, bytes = (dice >> 8 & 0xFFFFF) >> (dice >> 30) % 20;
        a_free(held[slot]);
        held[slot] = a_calloc(1, bytes);
        REQUIRE(held[slot] != NULL && is_zero(held[slot], bytes));
        memset(held[slot], 0xFF, malloc_usable_size(held[slot]));
    }
}

static void realloc_keeps_contents(void)
{
    for (int i = 0; i < KINDS; i++)
        for (int j = 0; j < KINDS; j++) {
            unsigned char *before = a_malloc(64), *block = a_malloc(kinds[i]),
                          *behind = a_malloc(kinds[i] < 9000 ? kinds[i] : 64);
            REQUIRE(block != NULL);
            memset(before, 1, 64);
            behind[0] = 2;
            paint(block, kinds[i], (unsigned long)i);
            block = a_realloc(block, kinds[j]);
            REQUIRE(block != NULL && (uintptr_t)block % 16 == 0 && malloc_usable_size(block) >= kinds[j]);
            REQUIRE(is_painted(block, kinds[i] < kinds[j] ? kinds[i] : kinds[j], (unsigned long)i));
            block[kinds[j] - 1] = 3;
            REQUIRE(before[63] == 1 && behind[0] == 2);
            a_free(block);
            a_free(before);
            a_free(behind);
        }
}

static void realloc_by_steps(void)
{
    unsigned long random = 362436069;
    enum { HELD = 32 };
    unsigned char *held[HELD] = {NULL};
    size_t bytes[HELD] = {0};
    for (int i = 0; i < 8000; i++) {
        unsigned long dice = next_random(&random);
        size_t slot = dice % HELD, wanted = 1 + ((dice >> 8 & 0x3FFFFF) >> (dice >> 32) % 22);
        unsigned char *block = a_realloc(held[slot], wanted);
        REQUIRE(block != NULL && malloc_usable_size(block) >= wanted);
        REQUIRE(is_painted(block, wanted < bytes[slot] ? wanted : bytes[slot], slot));
        paint(block, wanted, slot);
        held[slot] = block;
        bytes[slot] = wanted;
    }
    for (int i = 0; i < HELD; i++) {
        REQUIRE(is_painted(held[i], bytes[i], (unsigned long)i));
        a_free(held[i]);
    }
}

static void realloc_that_is_refused(void)
{
    for (int i = 0; i < KINDS; i++) {
        unsigned char *block = a_malloc(kinds[i]);
        REQUIRE(block != NULL);
        paint(block, kinds[i], 5);
        for (size_t j = 0; j < sizeof(huge) / sizeof(huge[0]); j++) {
            REFUSED(a_realloc(block, huge[j]));
            REQUIRE(is_painted(block, kinds[i] < 10000 ? kinds[i] : 10000, 5));
        }
        REQUIRE(is_painted(block, kinds[i], 5));
        a_free(block);
    }
}

/* As the C library does it: the block is freed, and NULL is no error. */
static void realloc_to_zero(void)
{
    errno = 4321;
    size_t before = 0;
    for (int i = 0; i < 40000; i++) {
        size_t bytes = i % 100 == 0 ? 300000 : (size_t)(i % 5000);
        void *block = a_malloc(bytes);
        REQUIRE(block != NULL);
        memset(block, 1, bytes);
        REQUIRE(a_realloc(block, 0) == NULL);
        REQUIRE(errno == 4321);
        if (i == 4000)
            before = mallinfo2().uordblks + mallinfo2().hblkhd;
    }
    REQUIRE(mallinfo2().uordblks + mallinfo2().hblkhd < before + 100000);
}

static void all_of_the_usable_bytes(void)
{
    enum { HELD = 40 };
    REQUIRE(malloc_usable_size(NULL) == 0);
    unsigned char *held[HELD];
    for (size_t bytes = 0; bytes < 2000000; bytes += 1 + bytes / 20) {
        int count = bytes < 100000 ? HELD : 3;
        for (int i = 0; i < count; i++) {
            held[i] = a_malloc(bytes);
            REQUIRE(held[i] != NULL && malloc_usable_size(held[i]) >= bytes);
            memset(held[i], i + 1, malloc_usable_size(held[i]));
        }
        for (int i = 0; i < count; i++) {
            size_t usable = malloc_usable_size(held[i]);
            REQUIRE(usable == 0 || (held[i][0] == i + 1 && memcmp(held[i], held[i] + 1, usable - 1) == 0));
            a_free(held[i]);
        }
    }
}

static void sized_frees(void)
{
    void (*sized)(void *, size_t);
    void (*aligned_sized)(void *, size_t, size_t);
    *(void **)&sized = dlsym(RTLD_DEFAULT, "free_sized");
    *(void **)&aligned_sized = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    REQUIRE(sized != NULL && aligned_sized != NULL);
    errno = 4321;
    sized(NULL, 0);
    aligned_sized(NULL, 64, 0);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (int round = 0; round < 1000; round++) {
        for (int i = 0; i < KINDS - 4; i++)
            sized(a_malloc(kinds[i]), kinds[i]);
        for (size_t align = 16; align <= 8192; align *= 2)
            aligned_sized(a_aligned_alloc(align, 3 * align), align, 3 * align);
    }
    REQUIRE(mallinfo2().uordblks + mallinfo2().hblkhd < before + 100000 && errno == 4321);
}

static void what_is_told(void)
{
    enum { COUNT = 10000 };
    static void *blocks[COUNT];
    struct mallinfo2 before = mallinfo2();
    for (int i = 0; i < COUNT; i++)
        blocks[i] = a_malloc(1000);
    void *large = a_malloc(50 << 20);
    struct mallinfo2 held = mallinfo2();
    REQUIRE(held.uordblks + held.hblkhd >= before.uordblks + before.hblkhd + 1000 * COUNT + (50 << 20));
    REQUIRE(held.hblks == before.hblks + 1 && held.hblkhd >= before.hblkhd + (50 << 20));
    REQUIRE(held.arena >= held.uordblks && held.arena - held.uordblks == held.fordblks);
    struct mallinfo old = (mallinfo)();
    REQUIRE(old.hblks == 1 + (int)before.hblks && old.uordblks > 1000 * COUNT);
    for (int i = 0; i < COUNT; i++) {
        memset(blocks[i], 1, 1000);
        a_free(blocks[i]);
    }
    memset(large, 1, 50 << 20);
    a_free(large);
    struct mallinfo2 after = mallinfo2();
    REQUIRE(after.uordblks + after.hblkhd <= before.uordblks + before.hblkhd + 100000);
    size_t resident = held_bytes(1);
    errno = 4321;
    REQUIRE(malloc_trim(0) == 1 && errno == 4321);
    REQUIRE(held_bytes(1) < resident && held_bytes(1) < 20 << 20);
    void *block = a_malloc(1000); /* something is live */
    REQUIRE(malloc_info(1, stdout) != 0);
    REQUIRE(malloc_info(0, stdout) == 0);
    malloc_stats();
    a_free(block);
}

static void other_functions_of_the_library(void)
{
    char *text = strdup("some text"), *part = strndup("some text", 4), *line = a_malloc(1), *print;
    REQUIRE(strcmp(text, "some text") == 0 && strcmp(part, "some") == 0);
    size_t size = 1;
    FILE *file = tmpfile();
    REQUIRE(file != NULL);
    for (int length = 1; length < 300000; length *= 3) {
        for (int i = 0; i < length; i++)
            fputc('a', file);
        fputc('\n', file);
    }
    rewind(file);
    for (int length = 1; length < 300000; length *= 3)
        REQUIRE(getline(&line, &size, file) == length + 1 && size > (size_t)length && line[length] == '\n');
    REQUIRE(malloc_usable_size(line) >= size);
    fclose(file);
    REQUIRE(asprintf(&print, "%0200000d", 7) == 200000 && print[199999] == '7');
    print = a_realloc(print, 10);
    REQUIRE(print != NULL && memcmp(print, "0000000000", 10) == 0);
    char *written = NULL;
    size_t written_bytes = 0;
    FILE *stream = open_memstream(&written, &written_bytes);
    REQUIRE(stream != NULL);
    for (int i = 0; i < 50000; i++)
        fputs("0123456789", stream);
    fclose(stream);
    REQUIRE(written_bytes == 500000 && memcmp(written + 499990, "0123456789", 11) == 0);
    char *folder = getcwd(NULL, 0), *path = realpath("/proc/../proc", NULL);
    REQUIRE(folder != NULL && path != NULL && strcmp(path, "/proc") == 0);
    struct dirent **entries;
    int count = scandir("/proc/self", &entries, NULL, alphasort);
    REQUIRE(count > 5);
    while (count > 0)
        a_free(entries[--count]);
    for (int i = 0; i < 1000; i++) {
        char name[32];
        snprintf(name, sizeof(name), "NAME_%d", i);
        REQUIRE(setenv(name, name, 1) == 0 && strcmp(getenv(name), name) == 0);
    }
    void *all[] = {entries, text, part, line, print, written, folder, path};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        a_free(all[i]);
}

/* Nothing that the program did has failed yet. */
static void no_error_is_left_at_the_start(void) { REQUIRE(dlerror() == NULL); }

static const test_case cases[] = {
    {"size_zero", size_zero},
    {"size_huge", size_huge},
    {"products", products},
    {"bad_alignments", bad_alignments},
    {"bad_aligned_alloc", bad_aligned_alloc},
    {"errno_is_left_alone", errno_is_left_alone},
    {"every_block_is_aligned", every_block_is_aligned},
    {"every_alignment", every_alignment},
    {"calloc_is_zero", calloc_is_zero},
    {"calloc_is_zero_by_chance", calloc_is_zero_by_chance},
    {"realloc_keeps_contents", realloc_keeps_contents},
    {"realloc_by_steps", realloc_by_steps},
    {"realloc_that_is_refused", realloc_that_is_refused},
    {"realloc_to_zero", realloc_to_zero},
    {"all_of_the_usable_bytes", all_of_the_usable_bytes},
    {"sized_frees", sized_frees},
    {"what_is_told", what_is_told},
    {"other_functions_of_the_library", other_functions_of_the_library},
    {"no_error_is_left_at_the_start", no_error_is_left_at_the_start},
};

int main(int argc, char **argv)
{
    REQUIRE(errno == 0);
    return main_of(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
