/* SPDX-License-Identifier: MIT
 *
 * What the tests of huge pages share: how a heap may use them, what the kernel says of a range, and its count of huge
 * pages that were given back in part: their memory stays allocated, which is what must never happen.
 */
#ifndef HUGE_FIXTURE_H
#define HUGE_FIXTURE_H

#include "fixture.h"
#include "slab/huge.h"

#define HUGE_BYTES ((size_t)2 << 20)

static const huge_use no_huge_pages = {.bytes = 0, .is_wanted = false, .is_unasked = false};
static const huge_use advised_huge_pages = {.bytes = HUGE_BYTES, .is_wanted = false, .is_unasked = false};
static const huge_use wanted_huge_pages = {.bytes = HUGE_BYTES, .is_wanted = true, .is_unasked = false};
static const huge_use unasked_huge_pages = {.bytes = HUGE_BYTES, .is_wanted = false, .is_unasked = true};

/* Can memory be in huge pages of HUGE_BYTES here? */
static inline bool has_huge_pages(void)
{
    huge_machine machine = huge_machine_now();
    return !UNDER_TSAN && getenv("SLABMALLOC_EMULATED") == NULL && machine.setting != HUGE_NEVER &&
           machine.bytes == HUGE_BYTES;
}

/* Of the mappings that overlap [begin, begin + bytes), by smaps: how many there are; the bytes that `field` ("Rss:")
 * sums up to; how many have `flag` (" nh": never huge). */
typedef struct smaps_sum {
    size_t count, bytes, flagged;
} smaps_sum;

static inline smaps_sum smaps_of(const void *begin, size_t bytes, const char *field, const char *flag)
{
    uintptr_t low, high;
    smaps_sum sum = {0, 0, 0};
    bool is_inside = false;
    char line[512];
    FILE *file = fopen("/proc/self/smaps", "r");
    REQUIRE(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &low, &high) == 2) {
            is_inside = low < (uintptr_t)begin + bytes && high > (uintptr_t)begin;
            sum.count += is_inside;
        } else if (is_inside && strncmp(line, field, strlen(field)) == 0) {
            sum.bytes += strtoul(line + strlen(field), NULL, 10) * 1024;
        } else if (is_inside && strncmp(line, "VmFlags:", 8) == 0) {
            sum.flagged += strstr(line, flag) != NULL;
        }
    }
    fclose(file);
    return sum;
}

static inline size_t huge_bytes_of(const void *begin, size_t bytes)
{
    return smaps_of(begin, bytes, "AnonHugePages:", "").bytes;
}

static inline bool all_flagged(const void *begin, size_t bytes, const char *flag)
{
    smaps_sum sum = smaps_of(begin, bytes, "Rss:", flag);
    return sum.count > 0 && sum.flagged == sum.count;
}

/* Of the whole system, since it started: huge pages that were given back in part. */
static inline size_t parts_given_back(void)
{
    char name[64];
    size_t value, found = 0;
    FILE *file = fopen("/proc/vmstat", "r");
    REQUIRE(file != NULL);
    while (fscanf(file, "%63s %zu", name, &value) == 2)
        if (strcmp(name, "thp_deferred_split_page") == 0)
            found = value;
    fclose(file);
    return found;
}

/* `act` gives no huge page back in part. What other processes do is counted too: so it may try again. */
static inline void check_gives_none_in_part(void (*act)(void), const char *file, int line, const char *text)
{
    enum { TRIALS = 8 };
    size_t parts = 1;
    for (int i = 0; i < TRIALS && parts > 0; i++) {
        size_t before = parts_given_back();
        act();
        parts = parts_given_back() - before;
    }
    if (parts > 0 && check_fail(file, line))
        printf("%s gave %zu huge pages back in part\n", text, parts);
}
#define CHECK_NONE_IN_PART(act) check_gives_none_in_part(act, __FILE__, __LINE__, #act)

#endif
