/* SPDX-License-Identifier: MIT
 *
 * Transparent huge pages of Linux: see huge.h. Nothing here allocates.
 */
#define _GNU_SOURCE
#include "slab/huge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "slab/pager.h"

#define FOLDER "/sys/kernel/mm/transparent_hugepage/"
#define USUAL_BYTES ((size_t)2 << 20)
/* Of larger ones hardly any would ever be free as a whole. */
#define MOST_BYTES ((size_t)32 << 20)

enum { TEXT_BYTES = 96 };

/* The first line of a file, at most; false: there is no such file. */
static bool read_text(const char *path, char text[TEXT_BYTES])
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, TEXT_BYTES - 1);
    if (file >= 0)
        close(file);
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

huge_setting huge_setting_of(const char *text, huge_setting inherited)
{
    if (strstr(text, "[inherit]") != NULL)
        return inherited;
    return strstr(text, "[always]") != NULL    ? HUGE_ALWAYS
           : strstr(text, "[madvise]") != NULL ? HUGE_ADVISED
                                               : HUGE_NEVER;
}

/* The setting of one size, since Linux 6.8. */
static bool read_setting_of_size(size_t bytes, char text[TEXT_BYTES])
{
    static const char begin[] = FOLDER "hugepages-", end[] = "kB/enabled";
    char path[sizeof begin + sizeof end + 20], digits[20];
    size_t count = 0, at = sizeof begin - 1;
    memcpy(path, begin, at);
    for (size_t rest = bytes / 1024; rest > 0; rest /= 10)
        digits[count++] = (char)('0' + rest % 10);
    while (count > 0)
        path[at++] = digits[--count];
    memcpy(path + at, end, sizeof end);
    return read_text(path, text);
}

/* Of all sizes up to `bytes`, the one that gives the most. */
static huge_setting read_setting(size_t bytes, huge_setting general)
{
    char text[TEXT_BYTES];
    huge_setting most = read_setting_of_size(bytes, text) ? huge_setting_of(text, general) : general;
    for (size_t size = 2 * os_page_bytes(); size < bytes; size *= 2) {
        huge_setting setting = read_setting_of_size(size, text) ? huge_setting_of(text, general) : HUGE_NEVER;
        most = setting > most ? setting : most;
    }
    return most;
}

/* What the system knows of such advice, by trying. */
static bool is_known(void)
{
    void *memory = slabmalloc_os_map(os_page_bytes(), SLABMALLOC_MIN_PAGE_BYTES, false);
    bool is_known = memory != NULL && slabmalloc_os_advise_huge(memory, os_page_bytes()) == 0;
    if (memory != NULL)
        slabmalloc_os_unmap(memory, os_page_bytes());
    return is_known;
}

huge_machine huge_machine_now(void)
{
    char text[TEXT_BYTES];
    int kept = errno;
    huge_machine machine = {.bytes = USUAL_BYTES, .setting = HUGE_ALWAYS};
    if (read_text(FOLDER "hpage_pmd_size", text) && is_power_of_two(strtoul(text, NULL, 10)))
        machine.bytes = strtoul(text, NULL, 10);
    if (read_text(FOLDER "enabled", text))
        machine.setting = read_setting(machine.bytes, huge_setting_of(text, HUGE_NEVER));
    else if (!is_known())
        machine.setting = HUGE_NEVER;
    /* 1: this process has none; with bit 1, since Linux 6.18: none but what it asks for. */
    int disabled = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
    if (disabled == 1)
        machine.setting = HUGE_NEVER;
    else if (disabled > 1 && machine.setting == HUGE_ALWAYS)
        machine.setting = HUGE_ADVISED;
    errno = kept;
    return machine;
}

const char *huge_use_of(huge_use *use, const huge_machine *machine, bool is_wanted)
{
    *use = (huge_use){
        .bytes = machine->setting == HUGE_NEVER ? 0 : machine->bytes,
        .is_unasked = machine->setting == HUGE_ALWAYS,
    };
    if (!is_wanted)
        return NULL;
    if (use->bytes == 0)
        return "the system gives this process none";
    if (use->bytes > MOST_BYTES)
        return "on this machine they are too large to go back one by one";
    use->is_wanted = true;
    return NULL;
}

/* A system that does not know the advice has no huge pages. */
static void advise(void *memory, size_t bytes, int advice)
{
    int kept = errno;
    madvise(memory, bytes, advice);
    errno = kept;
}

void huge_advise(void *memory, size_t bytes) { advise(memory, bytes, MADV_HUGEPAGE); }

void huge_refuse(void *memory, size_t bytes) { advise(memory, bytes, MADV_NOHUGEPAGE); }

void huge_cut(uintptr_t address)
{
    /* For advice that concerns a part of a huge page the kernel splits it, since there is such advice (Linux 4.5). */
    advise((void *)(address & ~(uintptr_t)(os_page_bytes() - 1)), os_page_bytes(), MADV_FREE);
}
