/* SPDX-License-Identifier: MIT
 *
 * Tests in a child process whose address space, or whose memory that can be written, is limited, to see what becomes of
 * memory that the system refuses.
 */
#ifndef LIMITS_H
#define LIMITS_H

#include "fixture.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static size_t space_left; /* in the child: bytes beyond what the process had */

/* What the process has: addresses, or private memory that can be written. */
static inline size_t has_bytes(bool is_data)
{
    size_t all = 0, data = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm == NULL || fscanf(statm, "%zu %*u %*u %*u %*u %zu", &all, &data) != 2)
        _exit(99);
    fclose(statm);
    return (is_data ? data : all) * (size_t)sysconf(_SC_PAGESIZE);
}

/* Runs `act` in a child that gets `bytes` more of either than it has; its exit status, 0 if all checks held. */
static inline int in_child_limited(bool is_data, size_t bytes, int (*act)(void))
{
    fflush(NULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        atomic_store(&check_failures, 0);
        rlim_t limit = has_bytes(is_data) + (rlim_t)bytes;
        struct rlimit most = {limit, limit};
        if ((is_data ? setrlimit(RLIMIT_DATA, &most) : setrlimit(RLIMIT_AS, &most)) != 0)
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

static inline int in_limited_child(size_t bytes, int (*act)(void)) { return in_child_limited(false, bytes, act); }
static inline int in_child_of_little_data(size_t bytes, int (*act)(void)) { return in_child_limited(true, bytes, act); }

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
