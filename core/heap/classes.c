/* SPDX-License-Identifier: MIT
 *
 * The size classes of the process heap: see classes.h. The rules by which sizes follow from a name are those of
 * slabmalloc.SizeClasses, on multiples of 16.
 */
#include "heap/classes.h"

#include <string.h>

#include "base/bits.h"
#include "heap/arena.h"

_Static_assert(HEAP_MEDIUM_BYTES % HEAP_ALIGN_BYTES == 0 && HEAP_SMALL_BYTES % HEAP_ALIGN_BYTES == 0,
               "the borders are sizes of classes");

static slabmalloc_size_classes classes_empty(void)
{
    return (slabmalloc_size_classes){
        .count = 0,
        .base_page_bytes = ARENA_UNIT_BYTES,
        .large_page_bytes = ARENA_CHUNK_BYTES,
        .max_base_bytes = HEAP_SMALL_BYTES,
        .sizes = {0},
    };
}

/* Only up to HEAP_CLASSES are kept, but all are counted. */
static void add(slabmalloc_size_classes *classes, size_t size)
{
    if (classes->count < HEAP_CLASSES)
        classes->sizes[classes->count] = (uint32_t)size;
    classes->count++;
}

/* What `all` has above the last size. */
static void add_above(slabmalloc_size_classes *classes, const slabmalloc_size_classes *all)
{
    uint32_t last = classes->count == 0 ? 0 : classes->sizes[min_size(classes->count, HEAP_CLASSES) - 1];
    for (uint32_t i = 0; i < all->count; i++)
        if (all->sizes[i] > last && all->sizes[i] % HEAP_ALIGN_BYTES == 0 && all->sizes[i] <= HEAP_MEDIUM_BYTES)
            add(classes, all->sizes[i]);
}

slabmalloc_size_classes heap_classes_default(void)
{
    slabmalloc_size_classes all = slabmalloc_size_classes_default(), classes = classes_empty();
    add_above(&classes, &all);
    return classes;
}

bool heap_classes_are_valid(const slabmalloc_size_classes *classes)
{
    slabmalloc_size_classes empty = classes_empty();
    uint32_t last = 0;
    if (classes->count < 1 || classes->count > HEAP_CLASSES || classes->base_page_bytes != empty.base_page_bytes ||
        classes->large_page_bytes != empty.large_page_bytes || classes->max_base_bytes != empty.max_base_bytes)
        return false;
    for (uint32_t i = 0; i < classes->count; i++) {
        if (classes->sizes[i] <= last || classes->sizes[i] % HEAP_ALIGN_BYTES != 0)
            return false;
        last = classes->sizes[i];
    }
    return last == HEAP_MEDIUM_BYTES;
}

/* ---- names ----------------------------------------------------------------------------------------------- */

/* base to the power of n, for a base of 1 to 2. */
static double power(double base, size_t n)
{
    double product = 1;
    while (n-- > 0)
        product *= base;
    return product;
}

/* The sizes start x 2^(k / steps), k = 1 ... steps, of each doubling: the first multiple of 16 of which the `steps`-th
 * power is as large. (In doubles: for each number of steps that makes no more than HEAP_CLASSES the outcome is that of
 * SizeClasses.geometric, which the tests compare.) */
static void add_geometric(slabmalloc_size_classes *classes, size_t steps)
{
    add(classes, HEAP_ALIGN_BYTES);
    for (size_t start = HEAP_ALIGN_BYTES, size = start; start < HEAP_MEDIUM_BYTES; start *= 2)
        for (size_t k = 1; k <= steps && classes->count <= HEAP_CLASSES; k++) {
            size_t before = size;
            while (power((double)size / (double)start, steps) < power(2, k))
                size += HEAP_ALIGN_BYTES;
            if (size > before)
                add(classes, size);
        }
}

static bool is_word(const char *word, size_t bytes, const char *name)
{
    return strlen(name) == bytes && memcmp(word, name, bytes) == 0;
}

/* A number in decimal digits of which it takes up to seven; SIZE_MAX: it is none. */
static size_t number_of(const char *word, size_t bytes)
{
    size_t number = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (word[i] < '0' || word[i] > '9')
            return SIZE_MAX;
        number = min_size(number * 10 + (size_t)(word[i] - '0'), 9999999);
    }
    return bytes == 0 ? SIZE_MAX : number;
}

/* ---- lists ----------------------------------------------------------------------------------------------- */

static const char too_many[] = "makes more than 128 classes";
_Static_assert(HEAP_CLASSES == 128, "it says so");

/* NULL, or what is wrong with the size after `last`. */
static const char *fault_of_size(size_t size, size_t last)
{
    if (size == SIZE_MAX)
        return "is no size in bytes";
    if (size > HEAP_MEDIUM_BYTES)
        return "is above 131072";
    if (size == 0 || size % HEAP_ALIGN_BYTES != 0)
        return "is not a multiple of 16";
    return size <= last ? "does not ascend" : NULL;
}

static bool read_list(const char *text, slabmalloc_size_classes *classes, heap_classes_fault *fault)
{
    size_t last = 0;
    for (const char *word = text, *next; word != NULL; word = next) {
        size_t bytes = strcspn(word, ","), size = number_of(word, bytes);
        next = word[bytes] == ',' ? word + bytes + 1 : NULL;
        *fault = (heap_classes_fault){word, bytes, fault_of_size(size, last)};
        if (fault->what != NULL)
            return false;
        add(classes, size);
        last = size;
    }
    slabmalloc_size_classes all = slabmalloc_size_classes_default();
    *fault = (heap_classes_fault){text, strlen(text), too_many};
    if (classes->count > HEAP_CLASSES)
        return false;
    fault->what = "makes more than 128 classes with those above it, up to 131072";
    add_above(classes, &all);
    return classes->count <= HEAP_CLASSES;
}

bool heap_classes_read(const char *text, slabmalloc_size_classes *classes, heap_classes_fault *fault)
{
    static const char geometric[] = "geometric:";
    slabmalloc_size_classes found = classes_empty(), powers = slabmalloc_size_classes_powers_of_two();
    size_t bytes = strlen(text);
    *fault = (heap_classes_fault){text, bytes, "is neither a name of classes nor a list of sizes"};
    if (is_word(text, bytes, "default")) {
        found = heap_classes_default();
    } else if (is_word(text, bytes, "powers-of-two")) {
        add_above(&found, &powers);
    } else if (strncmp(text, geometric, sizeof geometric - 1) == 0) {
        size_t steps = number_of(text + sizeof geometric - 1, bytes - (sizeof geometric - 1));
        fault->what = steps == 0 || steps == SIZE_MAX ? "has no number of steps" : too_many;
        if (steps == 0 || steps > HEAP_CLASSES)
            return false;
        add_geometric(&found, steps);
        if (found.count > HEAP_CLASSES)
            return false;
    } else if (*text < '0' || *text > '9' || !read_list(text, &found, fault)) {
        return false;
    }
    *classes = found;
    return true;
}
