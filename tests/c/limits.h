/* SPDX-License-Identifier: MIT
 *
 * Tests in a child process whose address space is limited, to see what becomes of memory that the system refuses.
 */
#ifndef LIMITS_H
#define LIMITS_H

#include "fixture.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static size_t space_left; /* in the child: bytes of address space beyond what the process had */

/* Runs `act` in a child that gets `bytes` of address space more than it has; its exit status, 0 if all checks held. */
static inline int in_limited_child(size_t bytes, int (*act)(void))
{
    fflush(NULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        atomic_store(&check_failures, 0);
        size_t pages = 0;
        FILE *statm = fopen("/proc/self/statm", "r");
        if (statm == NULL || fscanf(statm, "%zu", &pages) != 1)
            _exit(99);
        fclose(statm);
        rlim_t limit = pages * (rlim_t)sysconf(_SC_PAGESIZE) + bytes;
        struct rlimit space = {limit, limit};
        if (setrlimit(RLIMIT_AS, &space) != 0)
            _exit(99);
        space_left = bytes;
        int status = act();
        fflush(NULL);
        _exit(status != 0 ? status : atomic_load(&check_failures) != 0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static inline int try_half_a_gigabyte(void)
{
    void *memory =
        mmap(NULL, (size_t)512 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? 0 : 98; /* emulators may not keep the limit */
}

/* SLABMALLOC_EMULATED: under an emulator, which may not keep limits, or keep a table of all pages that are reserved, or
 * die of the limit itself. */
static inline bool is_emulated(void) { return getenv("SLABMALLOC_EMULATED") != NULL; }

/* Sanitizers need the address space themselves. */
static inline bool limits_are_kept(void)
{
    return !UNDER_ASAN && !UNDER_TSAN && !is_emulated() && in_limited_child((size_t)1 << 26, try_half_a_gigabyte) == 0;
}

#endif
