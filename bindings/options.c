/* SPDX-License-Identifier: MIT
 *
 * Options from the environment: nothing here allocates, since it runs before the first allocation.
 */
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stop.h"

static void say_unused(const char *name, const char *why)
{
    char line[OPTIONS_MESSAGE_BYTES + 64];
    int length = snprintf(line, sizeof(line), "slabmalloc: %s is not used: %s\n", name, why);
    if (write(STDERR_FILENO, line, (size_t)length) < 0)
        return; /* nobody to tell */
}

static size_t number_or(const char *name, unsigned least, size_t otherwise)
{
    const char *text = getenv(name);
    if (text == NULL || *text == '\0')
        return otherwise;
    char *end = NULL, why[80];
    unsigned long long number = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && *end == '\0' && number >= least)
        return (size_t)number;
    snprintf(why, sizeof(why), "'%.40s' is not a number from %u on", text, least);
    say_unused(name, why);
    return otherwise;
}

bool options_is_on(const char *name)
{
    const char *text = getenv(name);
    return text != NULL && *text != '\0' && strcmp(text, "0") != 0;
}

bool options_read_classes(const char *text, slabmalloc_size_classes *classes, char message[OPTIONS_MESSAGE_BYTES])
{
    enum { MOST_OF_WORD = 40 };
    heap_classes_fault fault;
    if (heap_classes_read(text, classes, &fault))
        return true;
    snprintf(message, OPTIONS_MESSAGE_BYTES,
             "'%.*s'%s %s (size classes are default, powers-of-two, geometric:N with N steps per doubling, or sizes in "
             "bytes with commas between them: ascending multiples of 16 up to 131072)",
             (int)min_size(fault.word_bytes, MOST_OF_WORD), fault.word, fault.word_bytes > MOST_OF_WORD ? "..." : "",
             fault.what);
    return false;
}

static void classes_from_environment(slabmalloc_size_classes *classes)
{
    const char *text = getenv("SLABMALLOC_CLASSES");
    char message[OPTIONS_MESSAGE_BYTES];
    if (text != NULL && *text != '\0' && !options_read_classes(text, classes, message))
        say_unused("SLABMALLOC_CLASSES", message);
}

space_options options_from_environment(void)
{
    space_options options = space_options_default();
    options.decay_ms = (uint32_t)min_size(number_or("SLABMALLOC_DECAY_MS", 0, options.decay_ms), UINT32_MAX / 2);
    options.large_bound_bytes = number_or("SLABMALLOC_CACHE_BYTES", 0, options.large_bound_bytes);
    options.reserve_bytes = number_or("SLABMALLOC_RESERVE", 1, options.reserve_bytes);
    options.huge_pages = options_is_on("SLABMALLOC_HUGE_PAGES");
    options.is_hardened = options_is_on("SLABMALLOC_HARDENED");
    options.damaged = stop_at_damage;
    options.late_double_free = stop_at_late_double_free;
    classes_from_environment(&options.classes);
    return options;
}
