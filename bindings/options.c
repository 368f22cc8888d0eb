/* SPDX-License-Identifier: MIT
 *
 * Options from the environment: nothing here allocates, since it runs before the first allocation.
 */
#include "options.h"

#include <stdlib.h>

static size_t number_or(const char *name, size_t otherwise)
{
    const char *text = getenv(name);
    char *end = NULL;
    if (text == NULL || *text < '0' || *text > '9')
        return otherwise;
    unsigned long long number = strtoull(text, &end, 10);
    return *end == '\0' ? (size_t)number : otherwise;
}

space_options options_from_environment(void)
{
    space_options options = space_options_default();
    options.decay_ms = (uint32_t)min_size(number_or("SLABMALLOC_DECAY_MS", options.decay_ms), UINT32_MAX / 2);
    options.large_bound_bytes = number_or("SLABMALLOC_CACHE_BYTES", options.large_bound_bytes);
    options.reserve_bytes = number_or("SLABMALLOC_RESERVE", options.reserve_bytes);
    options.huge_pages = number_or("SLABMALLOC_HUGE_PAGES", 0) != 0;
    return options;
}
