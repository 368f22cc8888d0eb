/* SPDX-License-Identifier: MIT
 *
 * What the programs of this directory share: REQUIRE ends the program with the line that failed, without allocating;
 * main_of runs the case that the first argument names. They ask for nothing that is ours alone.
 */
#ifndef PRELOAD_CHECK_H
#define PRELOAD_CHECK_H

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            require_failed(__FILE__ ":" TEXT(__LINE__) ": " #condition "\n");                                          \
    } while (0)

static inline void require_failed(const char *line)
{
    if (write(STDERR_FILENO, line, strlen(line)) < 0)
        _exit(4);
    _exit(3);
}

typedef struct test_case {
    const char *name;
    void (*run)(void);
} test_case;

static inline int main_of(const test_case *cases, size_t count, int argc, char **argv)
{
    for (size_t i = 0; i < count; i++)
        if (argc > 1 && strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run();
            return 0;
        }
    return 64; /* no such case */
}

/* The same on each run; quick. */
static inline unsigned long next_random(unsigned long *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

/* A pattern that tells blocks and places in them apart. */
static inline void paint(void *block, size_t bytes, unsigned long seed)
{
    unsigned char *at = (unsigned char *)block;
    size_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
        unsigned long value = (seed + i) * 0x9E3779B97F4A7C15ul;
        memcpy(at + i, &value, 8);
    }
    for (; i < bytes; i++)
        at[i] = (unsigned char)(seed + i);
}

/* The same `bytes` of a block that may have been painted longer. */
static inline int is_painted(const void *block, size_t bytes, unsigned long seed)
{
    const unsigned char *at = (const unsigned char *)block;
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        unsigned long value;
        memcpy(&value, at + i, 8);
        if (value != (seed + i) * 0x9E3779B97F4A7C15ul)
            return 0;
    }
    return 1;
}

static inline int is_zero(const void *block, size_t bytes)
{
    const unsigned char *at = (const unsigned char *)block;
    return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

/* Of /proc/self/statm: 0, all addresses; 1, resident. In bytes. */
static inline size_t held_bytes(int column)
{
    char text[256];
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long pages[2] = {0, 0};
    REQUIRE(file != NULL && fgets(text, sizeof(text), file) != NULL);
    REQUIRE(sscanf(text, "%lu %lu", &pages[0], &pages[1]) == 2);
    fclose(file);
    return pages[column] * (size_t)sysconf(_SC_PAGESIZE);
}

#endif
