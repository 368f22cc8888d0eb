/* SPDX-License-Identifier: MIT
 *
 * The named sets of size classes, and what makes a set valid.
 */
#include "slab/sizeclass.h"

#include "base/bits.h"
#include "slab/slab.h"

static slabmalloc_size_classes classes_empty(void)
{
    return (slabmalloc_size_classes){
        .count = 0,
        .base_page_bytes = SLABMALLOC_OBJECT_PAGE_BYTES,
        .large_page_bytes = SLABMALLOC_LARGE_PAGE_BYTES,
        .max_base_bytes = SLABMALLOC_MAX_BASE_ALLOC_BYTES,
        .sizes = {0},
    };
}

slabmalloc_size_classes slabmalloc_size_classes_default(void)
{
    enum { FINEST = 16, STEPS_PER_DOUBLING = 8 };
    slabmalloc_size_classes classes = classes_empty();
    classes.sizes[classes.count++] = SLABMALLOC_GRANULE_BYTES;
    for (uint32_t size = FINEST; size <= FINEST * STEPS_PER_DOUBLING; size += FINEST)
        classes.sizes[classes.count++] = size;
    for (uint32_t base = FINEST * STEPS_PER_DOUBLING; base < SLABMALLOC_MAX_ALLOC_BYTES; base *= 2)
        for (uint32_t step = 1; step <= STEPS_PER_DOUBLING; step++)
            classes.sizes[classes.count++] = base + base / STEPS_PER_DOUBLING * step;
    return classes;
}

slabmalloc_size_classes slabmalloc_size_classes_powers_of_two(void)
{
    slabmalloc_size_classes classes = classes_empty();
    for (uint32_t size = SLABMALLOC_GRANULE_BYTES; size <= SLABMALLOC_MAX_ALLOC_BYTES; size *= 2)
        classes.sizes[classes.count++] = size;
    return classes;
}

static bool page_size_is_valid(uint32_t bytes)
{
    return is_power_of_two(bytes) && bytes >= SLABMALLOC_MIN_PAGE_BYTES && bytes <= SLABMALLOC_MAX_PAGE_BYTES;
}

bool slabmalloc_size_classes_are_valid(const slabmalloc_size_classes *classes)
{
    if (classes->count < 1 || classes->count > SLABMALLOC_MAX_CLASSES ||
        !page_size_is_valid(classes->base_page_bytes) || !page_size_is_valid(classes->large_page_bytes))
        return false;
    uint32_t previous = 0;
    for (uint32_t i = 0; i < classes->count; i++) {
        uint32_t size = classes->sizes[i];
        if (size <= previous || size % SLABMALLOC_GRANULE_BYTES != 0)
            return false;
        if (slab_geometry_of(size, sizeclass_page_bytes(classes, i), false, 0).capacity == 0)
            return false;
        previous = size;
    }
    return true;
}
