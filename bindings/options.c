/* SPDX-License-Identifier: MIT
 *
 * Options from the environment: nothing here allocates, since it runs before the first allocation.
 */
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "process.h"
#include "stop.h"

enum { MOST_OF_WORD = 40 };

static void say_unused(const char *name, const char *why)
{
    char line[OPTIONS_MESSAGE_BYTES + 64];
    int length = snprintf(line, sizeof(line), "slabmalloc: %s is not used: %s\n", name, why);
    if (write(STDERR_FILENO, line, (size_t)length) < 0)
        return; /* nobody to tell */
}

/* The least that each variable takes which holds a number. */
static const struct {
    const char *name;
    unsigned least;
} numbers[] = {{"SLABMALLOC_DECAY_MS", 0}, {"SLABMALLOC_CACHE_BYTES", 0}, {"SLABMALLOC_RESERVE", 1}};

static bool is_number(const char *text, unsigned least, char message[OPTIONS_MESSAGE_BYTES])
{
    char *end = NULL;
    unsigned long long number = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && *end == '\0' && number >= least)
        return true;
    snprintf(message, OPTIONS_MESSAGE_BYTES, "'%.*s' is not a number from %u on", MOST_OF_WORD, text, least);
    return false;
}

bool options_is_on(const char *name)
{
    static const char *const off[] = {"", "0", "no", "false", "off"};
    const char *text = getenv(name);
    bool is_on = text != NULL;
    for (size_t i = 0; is_on && i < sizeof(off) / sizeof(off[0]); i++)
        is_on = strcasecmp(text, off[i]) != 0;
    return is_on;
}

/* ---- domains ------------------------------------------------------------------------------------------------- */

/* The next word of a list with commas in it, without the blanks around it; false: there is none. */
static bool next_word(const char **list, const char **word, size_t *length)
{
    static const char blanks[] = " \t\r\n";
    *word = *list + strspn(*list, " \t\r\n,");
    *length = strcspn(*word, ",");
    *list = *word + *length;
    while (*length > 0 && strchr(blanks, (*word)[*length - 1]) != NULL)
        --*length;
    return *length > 0;
}

static bool is_word(const char *word, size_t length, const char *name)
{
    return strlen(name) == length && memcmp(word, name, length) == 0;
}

static process_domain domain_of(const char *word, size_t length)
{
    process_domain domain = DOMAIN_OBJ;
    while (domain < DOMAIN_MALLOC && !is_word(word, length, process_domain_names[domain]))
        domain++;
    return domain;
}

bool options_read_domains(const char *text, bool is_preload, unsigned *mask, char message[OPTIONS_MESSAGE_BYTES])
{
    const char *list = text, *word;
    const unsigned all = 1u << DOMAIN_OBJ | 1u << DOMAIN_MEM | 1u << DOMAIN_RAW, numpy = 1u << DOMAIN_NUMPY;
    const char *remedy = is_preload ? "name some of obj, mem, raw, or none to have malloc alone served"
                                    : "name some of obj, mem, raw, numpy";
    size_t length;
    bool has_none = false;
    unsigned named = 0;
    while (text != NULL && next_word(&list, &word, &length)) {
        process_domain domain = domain_of(word, length);
        if (is_word(word, length, "none")) {
            has_none = true;
        } else if (domain == DOMAIN_MALLOC) {
            snprintf(message, OPTIONS_MESSAGE_BYTES, "'%.*s' is not a domain that can be served so; %s",
                     (int)min_size(length, MOST_OF_WORD), word, remedy);
            return false;
        } else {
            named |= 1u << domain;
        }
    }
    bool is_numpy_alone = is_preload && named == numpy;
    *mask = has_none ? 0 : named == 0 ? all | (is_preload ? 0 : numpy) : is_preload ? named & all : named;
    if (has_none && named != 0)
        snprintf(message, OPTIONS_MESSAGE_BYTES, "'%.*s' names domains and none as well; %s", MOST_OF_WORD, text,
                 remedy);
    else if (is_numpy_alone)
        snprintf(message, OPTIONS_MESSAGE_BYTES,
                 "under preload 'numpy' is served by malloc, always; %s, or let --in-process serve NumPy alone",
                 remedy);
    return !is_numpy_alone && (!has_none || named == 0);
}

unsigned options_domains(bool is_told)
{
    unsigned mask = 0;
    char message[OPTIONS_MESSAGE_BYTES];
    if (!options_read_domains(getenv("SLABMALLOC_DOMAINS"), true, &mask, message)) {
        if (is_told)
            say_unused("SLABMALLOC_DOMAINS", message);
        options_read_domains(NULL, true, &mask, message);
    }
    return mask;
}

/* ---- size classes, and all of them --------------------------------------------------------------------------- */

bool options_read_classes(const char *text, slabmalloc_size_classes *classes, char message[OPTIONS_MESSAGE_BYTES])
{
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

bool options_is_valid(const char *name, const char *text, char message[OPTIONS_MESSAGE_BYTES])
{
    slabmalloc_size_classes classes;
    if (*text == '\0')
        return true;
    if (strcmp(name, "SLABMALLOC_CLASSES") == 0)
        return options_read_classes(text, &classes, message);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (strcmp(name, numbers[i].name) == 0)
            return is_number(text, numbers[i].least, message);
    return true;
}

/* The text of a variable that is to be used; NULL: the default holds. */
static const char *used(const char *name)
{
    const char *text = getenv(name);
    char message[OPTIONS_MESSAGE_BYTES];
    if (text == NULL || *text == '\0')
        return NULL;
    if (options_is_valid(name, text, message))
        return text;
    say_unused(name, message);
    return NULL;
}

static size_t number_or(const char *name, size_t otherwise)
{
    const char *text = used(name);
    return text == NULL ? otherwise : (size_t)strtoull(text, NULL, 10);
}

static void classes_from_environment(slabmalloc_size_classes *classes)
{
    const char *text = used("SLABMALLOC_CLASSES");
    char message[OPTIONS_MESSAGE_BYTES];
    if (text != NULL)
        options_read_classes(text, classes, message);
}

space_options options_from_environment(void)
{
    space_options options = space_options_default();
    options.decay_ms = (uint32_t)min_size(number_or("SLABMALLOC_DECAY_MS", options.decay_ms), UINT32_MAX / 2);
    options.rest_bound_bytes = number_or("SLABMALLOC_CACHE_BYTES", options.rest_bound_bytes);
    options.reserve_bytes = number_or("SLABMALLOC_RESERVE", options.reserve_bytes);
    options.huge_pages = options_is_on("SLABMALLOC_HUGE_PAGES");
    options.is_hardened = options_is_on("SLABMALLOC_HARDENED");
    options.damaged = stop_at_damage;
    options.late_double_free = stop_at_late_double_free;
    classes_from_environment(&options.classes);
    return options;
}
