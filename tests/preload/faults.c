/* SPDX-License-Identifier: MIT
 *
 * A library to preload beside libslabmalloc.so: the system's calls for memory, of which it counts and refuses those
 * that it is told to; all others it makes. A program tells it by faults_arm and faults_disarm; for what comes before
 * the program's first line there is FAULTS="KINDS FIRST LAST ERRNO" in its environment.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Kinds of requests, a bit each. Without OF_ALL only those of libslabmalloc.so count; the C library's own, for stacks
 * and the like, never come by here. */
enum { MMAP = 1, MREMAP = 2, MPROTECT = 4, MUNMAP = 8, MADVISE = 16, OF_ALL = 32 };

static _Atomic unsigned armed_kinds; /* 0: nothing is counted */
static _Atomic unsigned long counted, first_refused, last_refused;
static _Atomic int reason;

/* What is loaded of libslabmalloc.so. The first request is made while the process has one thread. */
static _Atomic uintptr_t ours_begin, ours_end;

/* Requests `first` to `last` of these kinds, counted from 1 and from now on, are refused with this errno. */
void faults_arm(unsigned kinds, unsigned long first, unsigned long last, int error);
void faults_arm(unsigned kinds, unsigned long first, unsigned long last, int error)
{
    counted = 0;
    first_refused = first;
    last_refused = last;
    reason = error;
    armed_kinds = kinds;
}

/* From now on all are granted; returns how many were counted. */
unsigned long faults_disarm(void);
unsigned long faults_disarm(void)
{
    armed_kinds = 0;
    return counted;
}

/* Until the caller is the only thread of the process, for ten seconds at most. */
void faults_wait_for_threads(void);
void faults_wait_for_threads(void)
{
    struct stat tasks; /* a folder has two links, and one for each folder in it */
    for (int i = 0; i < 10000 && stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink > 3; i++)
        usleep(1000);
}

static int note_object(struct dl_phdr_info *info, size_t bytes, void *context)
{
    static const char name[] = "/libslabmalloc.so";
    size_t length = strlen(info->dlpi_name);
    (void)bytes, (void)context;
    if (length < sizeof(name) - 1 || strcmp(info->dlpi_name + length - (sizeof(name) - 1), name) != 0)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD) {
            uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, end = begin + info->dlpi_phdr[i].p_memsz;
            ours_begin = ours_begin == 0 || begin < ours_begin ? begin : ours_begin;
            ours_end = end > ours_end ? end : ours_end;
        }
    return 1;
}

static void begin(void)
{
    const char *text = getenv("FAULTS");
    unsigned kinds;
    unsigned long first, last;
    int error;
    dl_iterate_phdr(note_object, NULL);
    if (ours_end == 0)
        ours_end = 1; /* it is not there */
    else if (text != NULL && sscanf(text, "%u %lu %lu %d", &kinds, &first, &last, &error) == 4)
        faults_arm(kinds, first, last, error);
}

/* Counts the request if it is one of those; true, with errno set: it is to be refused. */
static bool is_refused(unsigned kind, const void *caller)
{
    if (ours_end == 0)
        begin();
    unsigned kinds = armed_kinds;
    uintptr_t at = (uintptr_t)caller;
    if ((kinds & kind) == 0 || ((kinds & OF_ALL) == 0 && (at < ours_begin || at >= ours_end)))
        return false;
    unsigned long number = ++counted;
    if (number < first_refused || number > last_refused)
        return false;
    errno = reason;
    return true;
}

#define IS_REFUSED(kind) is_refused((kind), __builtin_return_address(0))

void *mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset)
{
    return IS_REFUSED(MMAP) ? MAP_FAILED
                            : (void *)syscall(SYS_mmap, address, bytes, protection, flags, file, (long)offset);
}

void *mmap64(void *address, size_t bytes, int protection, int flags, int file, off64_t offset)
    __attribute__((alias("mmap")));

void *mremap(void *address, size_t old_bytes, size_t new_bytes, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    void *target = (flags & MREMAP_FIXED) != 0 ? va_arg(more, void *) : NULL;
    va_end(more);
    return IS_REFUSED(MREMAP) ? MAP_FAILED : (void *)syscall(SYS_mremap, address, old_bytes, new_bytes, flags, target);
}

int mprotect(void *address, size_t bytes, int protection)
{
    return IS_REFUSED(MPROTECT) ? -1 : (int)syscall(SYS_mprotect, address, bytes, protection);
}

int munmap(void *address, size_t bytes) { return IS_REFUSED(MUNMAP) ? -1 : (int)syscall(SYS_munmap, address, bytes); }

int madvise(void *address, size_t bytes, int advice)
{
    return IS_REFUSED(MADVISE) ? -1 : (int)syscall(SYS_madvise, address, bytes, advice);
}
