/* SPDX-License-Identifier: MIT
 *
 * Size classes, floor 1: the named sets of them, and what makes a set valid. Sets are plain values of the public
 * header.
 */
#ifndef SLABMALLOC_SLAB_SIZECLASS_H
#define SLABMALLOC_SLAB_SIZECLASS_H

#include "slabmalloc.h"

static inline uint32_t sizeclass_page_bytes(const slabmalloc_size_classes *classes, uint32_t index)
{
    return classes->sizes[index] <= classes->max_base_bytes ? classes->base_page_bytes : classes->large_page_bytes;
}

#endif
